"""Secrets on this machine: a folder each, a file a key, as Kubernetes mounts them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sagepool.laptop.errors import WrongUse
from sagepool_router.auth.entries import MAX_ENTRY_BYTES, read_entries
from sagepool_router.auth.files import read_directory


class Secrets:
    """Keys that pool files name, in `~/.sage/secrets`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key_file(self, name: str, key: str, wanted_by: str) -> Path:
        """The file of one key.

        Raises:
            WrongUse: it is not there, or nothing is in it.
        """
        path = self._folder / name / key
        if not path.is_file() or not path.stat().st_size:
            raise WrongUse(
                f"{wanted_by} names key {key} of Secret {name}, which this machine does not have: "
                f"write it into {path}"
            )
        return path

    def api_keys(self, name: str, wanted_by: str) -> Path:
        """The folder of a Secret with API keys, of which the router can use at least one.

        Raises:
            WrongUse: it is not there, empty, or no key of it can be used.
        """
        path = self._folder / name
        if not path.is_dir() or not any(path.iterdir()):
            raise WrongUse(
                f"{wanted_by} names Secret {name}, which this machine does not have: write a file "
                f"for each of its keys into {path}"
            )
        try:
            found = read_directory(path, MAX_ENTRY_BYTES)
        except OSError as error:
            raise WrongUse(f"{path} cannot be read: {error.strerror or error}") from None
        entries = read_entries(found.contents)
        if not entries.accepted:
            refused = {**found.unreadable, **entries.refused}
            reasons = "; ".join(f"{key}: {reason}" for key, reason in sorted(refused.items()))
            raise WrongUse(
                f"{wanted_by} names Secret {name}, and no key in {path} can be used"
                + (f": {reasons}" if reasons else ": write each into a file of its own")
            )
        return path

    def environment(self, variables: Iterable[Mapping[str, Any]], wanted_by: str) -> dict[str, str]:
        """Variables of a container as they are here.

        Raises:
            WrongUse: a key is missing, or a value comes from what only a cluster has.
        """
        found: dict[str, str] = {}
        for variable in variables:
            name, source = variable["name"], variable.get("valueFrom")
            if source is None:
                found[name] = variable.get("value") or ""
            elif "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                path = self.key_file(reference["name"], reference["key"], wanted_by)
                found[name] = path.read_text().strip()
            else:
                raise WrongUse(
                    f"{wanted_by} sets {name} from a ConfigMap or a field of its pod, which only a "
                    "cluster has: set value, or use a Secret"
                )
        return found
