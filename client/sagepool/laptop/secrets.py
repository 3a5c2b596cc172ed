"""Secrets on this machine: a folder each, a file a key, as Kubernetes mounts them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sagepool.laptop.errors import WrongUse


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

    def directory(self, name: str, wanted_by: str) -> Path:
        """The folder of a Secret with at least one key.

        Raises:
            WrongUse: it is not there, or empty.
        """
        path = self._folder / name
        if not path.is_dir() or not any(path.iterdir()):
            raise WrongUse(
                f"{wanted_by} names Secret {name}, which this machine does not have: write a file "
                f"for each of its keys into {path}"
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
