"""`sage doctor`: what is here, what is not, and what to do."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from sagepool.cli import output, places
from sagepool.cli.cluster import KubeconfigOption, NamespaceOption, Target, condition, in_cluster
from sagepool.cli.output import Output, columns
from sagepool.laptop.errors import CommandError, NothingFound

if TYPE_CHECKING:
    from sagepool_kube.api import Object

_TOLD: Final = 3
"""Instances of a pool of which it is told why they are not ready."""

Verdict: TypeAlias = Literal["ok", "absent", "wrong"]
"""absent: not here, which is wrong only for who wants it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    message: str
    """What is so, and what to do about it."""


def doctor(
    form: Annotated[
        Output, typer.Option("--output", "-o", help="The form of the output.")
    ] = Output.TABLE,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> int:
    """Check this machine, the pools on it, the cluster, and what clients would find.

    Exit code 0: nothing is wrong; 1: something is.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _machine,
        _engines,
        _gpus,
        _keys,
        _pools_here,
        lambda: _cluster(namespace, kubeconfig),
        _clients,
    ]
    findings = [finding for check in checks for finding in check()]
    rows = [(f.verdict, f.check, f.message) for f in findings]
    output.write(
        [asdict(finding) for finding in findings],
        form,
        lambda: columns(("", "CHECK", "FOUND"), rows),
    )
    return 1 if any(finding.verdict == "wrong" for finding in findings) else 0


def _machine() -> Iterator[Finding]:
    if sys.platform == "linux":
        yield Finding("machine", "ok", f"Linux, Python {sys.version.split()[0]}")
    else:
        yield Finding("machine", "absent", "pools run on Linux only; the client runs here")
    home = places.home().folder
    if _is_usable(home):
        yield Finding("state", "ok", f"{home} can be written")
    else:
        yield Finding(
            "state",
            "wrong",
            f"{home} cannot be read and written: set SAGE_HOME to another folder",
        )


def _is_usable(folder: Path) -> bool:
    """Whether it can be read and written, or made."""
    # os.path, for Path.exists raises where what is above may not be entered.
    above = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return os.path.isdir(above) and os.access(above, os.R_OK | os.W_OK | os.X_OK)


def _engines() -> Iterator[Finding]:
    from sagepool.laptop.programs import find_program

    ways = {
        "sagepool-router": "pip install 'sagepool[cli]'",
        "vllm": "pip install 'vllm>=0.24', to run models here",
        "text-embeddings-router": "install Text Embeddings Inference, for engines of type tei",
    }
    for program, way in ways.items():
        path = find_program(program)
        if path is None:
            yield Finding(program, "absent", f"not installed: {way}")
        else:
            yield Finding(program, "ok", path)


def _gpus() -> Iterator[Finding]:
    from sagepool.laptop.gpus import read_gpus

    try:
        found = read_gpus(os.environ)
    except CommandError as error:
        yield Finding("gpu", "wrong", str(error))
        return
    if not found:
        yield Finding("gpu", "absent", "no NVIDIA GPU is seen: simulators run without one")
    for gpu in found:
        free = f"{gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free"
        yield Finding(f"gpu {gpu.index}", "ok", f"{gpu.name}, {free}")


def _keys() -> Iterator[Finding]:
    """The keys that pool files name and the hub's; never what they are."""
    if os.environ.get("HF_TOKEN"):
        yield Finding("HF_TOKEN", "ok", "set")
    else:
        yield Finding("HF_TOKEN", "absent", "not set: gated and private models of the hub need it")
    home = places.home()
    try:
        folders = sorted(path for path in home.secrets.glob("*") if path.is_dir())
        for folder in folders:
            yield _secret(folder, home.folder)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield Finding("secrets", "wrong", f"{error.filename} cannot be read: {why}")


def _secret(folder: Path, home: Path) -> Finding:
    """Whether a Secret of this machine can be read by this user, and by nobody else."""
    name = f"secret {folder.name}"
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    for path in files:
        if not os.access(path, os.R_OK):
            return Finding(name, "wrong", f"{path} cannot be read: mend its rights, or remove it")
        if _others_read(path, home):
            return Finding(name, "wrong", f"others can read {path}: chmod -R go= {folder}")
    if not files:
        return Finding(name, "wrong", f"{folder} has no key: write each into a file of its own")
    return Finding(name, "ok", f"{len(files)} keys, for you alone")


def _others_read(path: Path, home: Path) -> bool:
    """Whether its rights, and those of the folders around it up to the home, let everybody in."""
    folders = [folder for folder in path.parents if folder.is_relative_to(home)]
    return bool(path.stat().st_mode & stat.S_IROTH) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in folders
    )


def _pools_here() -> Iterator[Finding]:
    try:
        found = places.statuses("pool", "")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield Finding("pools here", "wrong", f"{error.filename} cannot be read: {why}")
        return
    for status in found:
        if status.is_ready:
            yield Finding(f"pool {status.name} here", "ok", f"ready at {status.address}/v1")
            continue
        waits = [f"{p.name}: {p.message or p.phase}" for p in status.parts if p.phase != "ready"]
        words = "; ".join([status.message, *waits] if status.message else waits)
        yield Finding(f"pool {status.name} here", "wrong", f"{status.outcome}: {words}")


def _cluster(namespace: str, kubeconfig: str) -> Iterator[Finding]:
    from sagepool_kube.api import INSTANCES, POOLS
    from sagepool_kube.errors import NoCluster

    async def read(target: Target) -> "tuple[str, tuple[Object, ...], tuple[Object, ...]]":
        return target.namespace, await target.list(POOLS), await target.list(INSTANCES)

    try:
        space, pools, instances = in_cluster(read, namespace, kubeconfig)
    except NothingFound as error:
        yield Finding("cluster", "wrong", str(error))
        return
    except CommandError as error:
        is_named = bool(kubeconfig or os.environ.get("KUBECONFIG"))
        absent = isinstance(error.__cause__, NoCluster) and not is_named
        yield Finding("cluster", "absent" if absent else "wrong", str(error).split("; see `")[0])
        return
    yield Finding("cluster", "ok", f"answers and has sagepool; {len(pools)} pools in {space}")
    for pool in pools:
        ready = condition(pool, "Ready")
        name = f"pool {pool['metadata']['name']}"
        if ready.get("status") == "True":
            yield Finding(name, "ok", str(pool.get("status", {}).get("endpoint", "ready")))
            yield _router(pool["metadata"]["name"], space, kubeconfig)
        elif ready:
            yield Finding(name, "wrong", f"{ready['reason']}: {ready['message']}")
        else:
            yield Finding(name, "wrong", "no operator has seen it: is sagepool's operator running?")
        yield from _instances(
            pool["metadata"]["name"],
            [obj for obj in instances if obj["spec"]["poolRef"] == pool["metadata"]["name"]],
        )


def _instances(pool: str, instances: "Sequence[Object]") -> Iterator[Finding]:
    """Whether a pool's engines take requests, but for those that are being emptied on purpose."""
    if not instances:
        return
    waits = []
    for obj in instances:
        status = obj.get("status", {})
        phase = status.get("phase") or "Pending"
        if phase not in ("Ready", "Draining"):
            reason = f"{phase}, {status['message']}" if status.get("message") else phase
            waits.append(f"{obj['metadata']['name']}: {reason}")
    name = f"instances of pool {pool}"
    if not waits:
        yield Finding(name, "ok", f"none of {len(instances)} waits or has failed")
        return
    told = "; ".join([*waits[:_TOLD], *(["..."] if len(waits) > _TOLD else [])])
    yield Finding(name, "wrong", f"{len(waits)} of {len(instances)} are not ready: {told}")


def _router(pool: str, namespace: str, kubeconfig: str) -> Finding:
    """Whether a pool's router lets this user in, asked as `sage chat --pool` asks it."""
    from sagepool.cli.servers import forwarded, key_of
    from sagepool.endpoints import Endpoint
    from sagepool.errors import ConfigurationError
    from sagepool.probes import KeyWantedError, NotServingError, ask_what_is_served

    name, key = f"router of pool {pool}", key_of(os.environ)
    try:
        with forwarded(pool, namespace, kubeconfig) as server:
            try:
                served = asyncio.run(ask_what_is_served(Endpoint(server.address, key or None)))
                return Finding(name, "ok", f"lets you in; serves {served}")
            except KeyWantedError:
                verdict: Verdict = "wrong" if key else "absent"
                return Finding(name, verdict, str(server.wants_key(is_given=bool(key))))
            except (NotServingError, ConfigurationError) as error:
                return Finding(name, "wrong", str(error))
    except CommandError as error:
        return Finding(name, "wrong", str(error).split("; see `")[0])


def _clients() -> Iterator[Finding]:
    from sagepool.detection import detect
    from sagepool.errors import NothingFoundError, SagepoolError

    try:
        found = detect()
        found.endpoints()
    except NothingFoundError as error:
        yield Finding("clients", "absent", str(error).partition(" Tried: ")[0])
    except SagepoolError as error:
        yield Finding("clients", "wrong", str(error))
    else:
        yield Finding("clients", "ok", found.summary())
