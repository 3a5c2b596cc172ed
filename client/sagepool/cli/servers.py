"""The server that `sage chat` and `sage embed` speak to, and a client for it."""

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sagepool.cli import places
from sagepool.cli.cluster import Target, in_cluster
from sagepool.laptop.errors import CommandError, WrongUse

if TYPE_CHECKING:
    from sagepool import UnifiedInferenceClient

_FORWARD_LIMIT_S: Final = 20.0
_STOP_LIMIT_S: Final = 5.0
_FORWARDED: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_KEY_VARIABLE: Final = "SAGE_UNIFIED_API_KEY"

BaseUrl = Annotated[
    str, typer.Option("--base-url", help="A server's address, with /v1.", show_default=False)
]
ClusterPool = Annotated[
    str, typer.Option("--pool", help="A pool of the cluster.", show_default=False)
]


@contextlib.contextmanager
def open_client(
    base_url: str, pool: str, namespace: str, kubeconfig: str
) -> "Iterator[UnifiedInferenceClient]":
    """A client for the address, else the cluster's pool, else the pool that runs here, else what
    is found (`UnifiedInferenceClient.create_auto`). The key is SAGE_UNIFIED_API_KEY.

    Raises:
        WrongUse: two are named, or several run here.
        CommandError: the pool cannot be reached.
    """
    from sagepool import UnifiedInferenceClient

    if base_url and pool:
        raise WrongUse("give --base-url or --pool, not both")
    key = os.environ.get(_KEY_VARIABLE)
    with contextlib.ExitStack() as stack:
        address = base_url
        if pool:
            address = stack.enter_context(forwarded(pool, namespace, kubeconfig))
        elif not base_url:
            address = _address_here()
        if address:
            client = UnifiedInferenceClient.create(address, api_key=key)
        else:
            client = UnifiedInferenceClient.create_auto()
        yield stack.enter_context(client)


def _address_here() -> str:
    """The pool that runs on this machine; empty when none does, or the environment names one."""
    if any(name.startswith("SAGE_") and name.endswith("_BASE_URL") for name in os.environ):
        return ""
    running = [status for status in places.statuses("pool", "") if status.parts]
    if len(running) > 1:
        listed = ", ".join(f"{status.address}/v1 ({status.name})" for status in running)
        raise WrongUse(f"several pools run here: choose one with --base-url: {listed}")
    return f"{running[0].address}/v1" if running else ""


@contextlib.contextmanager
def forwarded(pool: str, namespace: str, kubeconfig: str) -> Iterator[str]:
    """The address of a cluster's pool on this machine, while inside; kubectl forwards it.

    Raises:
        CommandError: it cannot be reached.
    """
    from sagepool.laptop.programs import require_program
    from sagepool_crds import names
    from sagepool_kube.api import POOLS

    kubectl = require_program("kubectl", "--pool")

    async def find(target: Target) -> tuple[str, int]:
        found = await target.get(POOLS, pool)
        return target.namespace, int(found["spec"]["router"]["service"]["port"])

    space, port = in_cluster(find, namespace, kubeconfig)
    command = [
        kubectl,
        "port-forward",
        f"--namespace={space}",
        *([f"--kubeconfig={kubeconfig}"] if kubeconfig else []),
        f"service/{names.router_name(pool)}",
        f":{port}",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{_read_port(process, pool)}/v1"
        finally:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _read_port(process: subprocess.Popen[bytes], pool: str) -> int:
    """The port that kubectl says it listens on."""
    said = b""
    until = time.monotonic() + _FORWARD_LIMIT_S
    if process.stdout is None:
        raise CommandError("kubectl has no output")
    descriptor = process.stdout.fileno()
    while (left_s := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left_s)[0]:
            chunk = os.read(descriptor, 4096)
            said += chunk
            found = _FORWARDED.search(said.decode(errors="replace"))
            if found is not None:
                return int(found[1])
            if not chunk:
                break
    words = " ".join(said.decode(errors="replace").split()) or "nothing in time"
    raise CommandError(
        f"the router of pool {pool} cannot be reached: kubectl says {words[:300]}; see "
        f"`sage pool get {pool}`"
    )
