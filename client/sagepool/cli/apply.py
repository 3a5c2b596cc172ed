"""`sage pool apply`: a pool file to the cluster, or what it would change there."""

import contextlib
import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sagepool.cli.cluster import (
    FIELD_MANAGER,
    Json,
    KubeconfigOption,
    NamespaceOption,
    Target,
    in_cluster,
)
from sagepool.cli.values import not_empty
from sagepool.laptop.errors import CommandError, WrongUse

if TYPE_CHECKING:
    from sagepool_kube.api import Object


def apply(
    file: Annotated[str, typer.Option("--file", "-f", help="The pool file.", callback=not_empty)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the difference and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take over fields that others have set.")
    ] = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Make the cluster's pools and instances as a file says.

    The file is read by the cluster's own rules before the cluster is asked. A dry run shows the
    difference also where others have set fields, and names those fields.
    """
    from sagepool.laptop import manifest

    path = Path(os.path.expanduser(file))
    manifest.read_objects(path)
    wanted = manifest.read_documents(path)

    async def work(target: Target) -> list[str]:
        # All are asked for before the first is changed: one that is refused changes nothing.
        told = [await _difference(target, obj, force=force, dry_run=dry_run) for obj in wanted]
        if not dry_run:
            for obj, (_, changes) in zip(wanted, told, strict=True):
                if changes:
                    await _send(target, obj, force=force, dry_run=False)
        return [
            changes if dry_run and changes else _verdict(obj, existed=existed, changes=changes)
            for obj, (existed, changes) in zip(wanted, told, strict=True)
        ]

    print("\n".join(in_cluster(work, namespace, kubeconfig)))


async def _difference(target: Target, obj: Json, *, force: bool, dry_run: bool) -> tuple[bool, str]:
    """Whether the object exists, and how it would change; empty when not at all."""
    from sagepool_crds.admission import Refused, admit
    from sagepool_kube.errors import NotFound

    kind, space, name = _kind(obj), _space(target, obj), obj["metadata"]["name"]
    live: Object | None = None
    with contextlib.suppress(NotFound):
        live = await target.api.get(kind, space, name)
    try:
        admit(obj, old=live)
    except Refused as refused:
        raise WrongUse(str(refused)) from None
    planned = await _foresee(target, obj, force=force, dry_run=dry_run)
    before = _yaml(live) if live is not None else []
    lines = difflib.unified_diff(
        before,
        _yaml(planned),
        f"cluster: {kind.kind} {space}/{name}" if live is not None else "cluster: nothing",
        f"file: {kind.kind} {space}/{name}",
    )
    return live is not None, "".join(lines).rstrip("\n")


async def _foresee(target: Target, obj: Json, *, force: bool, dry_run: bool) -> "Object":
    """What the object would be; fields that others have set end it, but for a dry run."""
    try:
        return await _send(target, obj, force=force, dry_run=True)
    except CommandError as held:
        if not dry_run:
            raise
        planned = await _send(target, obj, force=True, dry_run=True)
        print(f"sage: without --force this would be refused: {held}", file=sys.stderr)
        return planned


async def _send(target: Target, obj: Json, *, force: bool, dry_run: bool) -> "Object":
    from sagepool_kube.errors import Conflict

    try:
        return await target.api.apply(
            _kind(obj),
            _space(target, obj),
            obj,
            field_manager=FIELD_MANAGER,
            force=force,
            dry_run=dry_run,
        )
    except Conflict as error:
        words = " ".join(str(error).split())  # the server writes a field a line
        raise CommandError(
            f"{words}; --force takes the fields over from whoever set them"
        ) from error


def _kind(obj: Json) -> Any:
    from sagepool_crds import names
    from sagepool_kube.api import INSTANCES, POOLS

    return POOLS if obj["kind"] == names.POOL_KIND else INSTANCES


def _space(target: Target, obj: Json) -> str:
    return str(obj["metadata"].get("namespace") or target.namespace)


def _verdict(obj: Mapping[str, Any], *, existed: bool, changes: str) -> str:
    done = "unchanged" if not changes else "changed" if existed else "created"
    return f"{obj['kind']} {obj['metadata']['name']} {done}"


def _yaml(obj: Json) -> list[str]:
    """What people write of an object, as lines of YAML."""
    import yaml

    metadata = {k: v for k, v in obj["metadata"].items() if k in ("labels", "annotations")}
    shown = {**({"metadata": metadata} if metadata else {}), "spec": obj["spec"]}
    return yaml.safe_dump(shown, sort_keys=True, allow_unicode=True).splitlines(keepends=True)
