"""The server that `sage chat` and `sage embed` speak to, and a client for it."""

import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sagepool.cli.cluster import connect
from sagepool.cli.only_pool import find_only_pool
from sagepool.cli.values import object_name
from sagepool.laptop.errors import CommandError, WrongUse

if TYPE_CHECKING:
    from sagepool import UnifiedInferenceClient
    from sagepool.detection import Detection
    from sagepool.endpoints import Kind
    from sagepool_kube.errors import KubeError

_KEY_VARIABLE: Final = "SAGE_UNIFIED_API_KEY"
_POOL_KEY_VARIABLE: Final = "SAGEPOOL_API_KEY"
"""For routers only: it is never sent to an address that was given."""
_WAYS: Final = f"with --api-key or {_KEY_VARIABLE}"

BaseUrl = Annotated[
    str, typer.Option("--base-url", help="A server's address, with /v1.", show_default=False)
]
ClusterPool = Annotated[
    str,
    typer.Option("--pool", help="A pool of the cluster.", show_default=False, callback=object_name),
]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        help=f"The server's; {_KEY_VARIABLE} keeps it out of the list of processes.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Server:
    """Where a router or an engine answers."""

    name: str
    """For messages."""
    address: str
    """With /v1."""
    keys: str = ""
    """Where its API keys are kept, for messages; empty: not known."""

    def wants_key(self, is_given: bool) -> WrongUse:
        """What to say when it answers 401."""
        wants = "does not take this API key" if is_given else "wants an API key"
        one = f"one of {self.keys}" if self.keys else "one"
        return WrongUse(f"{self.name} {wants}: give {one} {_WAYS}")


@contextlib.contextmanager
def open_client(
    base_url: str, api_key: str, pool: str, namespace: str, kubeconfig: str, kind: "Kind" = "llm"
) -> "Iterator[UnifiedInferenceClient]":
    """A client for the address, else the cluster's pool, else what is found.

    Where nothing of this machine answers requests of the kind, the only pool of the kubeconfig's
    cluster goes before a provider.

    Raises:
        WrongUse: two are named, or a cluster without a pool of it, or its cluster has several
            pools, or the server wants another API key.
        CommandError: the pool cannot be reached.
        ConfigurationError: nothing is found, or several pools run here.
    """
    from sagepool import UnifiedInferenceClient
    from sagepool.errors import AuthenticationError

    if base_url and pool:
        raise WrongUse("give --base-url or --pool, not both")
    if (namespace or kubeconfig) and not pool:
        raise WrongUse(
            "--namespace and --kubeconfig say where a cluster's pool is: name it with --pool, or "
            "leave them out"
        )
    found: Detection | None = None
    if not (base_url or pool):
        found = _detect(api_key)
        if _is_found_nowhere_near(found, kind) and (only := find_only_pool()):
            pool, namespace = only
    key = api_key or os.environ.get(_KEY_VARIABLE, "")
    with contextlib.ExitStack() as stack:
        if pool:
            key = api_key or key_of(os.environ)
            server = stack.enter_context(forwarded(pool, namespace, kubeconfig))
            client = UnifiedInferenceClient.create(server.address, api_key=key or None)
        elif found is not None:
            server = Server("the server", "")
            client = UnifiedInferenceClient(found.endpoints(), {}, found)
        else:
            server = Server(base_url, base_url)
            client = UnifiedInferenceClient.create(base_url, api_key=key or None)
        try:
            yield stack.enter_context(client)
        except AuthenticationError as error:
            raise server.wants_key(is_given=bool(key)) from error


def _detect(api_key: str) -> "Detection":
    from sagepool.detection import detect

    # The unified key is for the server that the environment names, not for whatever listens on a
    # usual port.
    unified = api_key or os.environ.get(_KEY_VARIABLE, "")
    for_pools = api_key or os.environ.get(_POOL_KEY_VARIABLE, "")
    return detect({**os.environ, _KEY_VARIABLE: unified, _POOL_KEY_VARIABLE: for_pools})


def _is_found_nowhere_near(found: "Detection", kind: "Kind") -> bool:
    """Whether only a provider is there for the kind, or nothing, and nobody has asked for that."""
    from sagepool.environment import Environment

    endpoint = found.llm if kind == "llm" else found.embedding
    if endpoint is not None and not found.is_cloud(kind):
        return False
    return not Environment(os.environ).forces_cloud()


def key_of(environ: Mapping[str, str]) -> str:
    """The API key for a cluster's router that the environment has; empty when it has none."""
    return environ.get(_KEY_VARIABLE, "") or environ.get(_POOL_KEY_VARIABLE, "")


@contextlib.contextmanager
def forwarded(pool: str, namespace: str, kubeconfig: str) -> Iterator[Server]:
    """The router of a cluster's pool at a port of this machine, while inside.

    Raises:
        CommandError: it cannot be reached.
    """
    from anyio.from_thread import start_blocking_portal

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_forwarded(pool, namespace, kubeconfig)) as server,
    ):
        yield server


@contextlib.asynccontextmanager
async def _forwarded(pool: str, namespace: str, kubeconfig: str) -> AsyncGenerator[Server]:
    from sagepool_crds import names
    from sagepool_kube.api import POOLS
    from sagepool_kube.errors import KubeError
    from sagepool_kube.forwarding import forward_service

    async with connect(namespace, kubeconfig) as target:
        found = await target.get(POOLS, pool)
        secret = found["spec"]["router"].get("auth", {}).get("apiKeysSecret", "")
        keys = f"Secret {secret} of namespace {target.namespace}" if secret else ""
        way = forward_service(
            target.api, target.namespace, names.router_name(pool), on_failure=_Breaks(pool)
        )
        async with contextlib.AsyncExitStack() as stack:
            try:
                port = await stack.enter_async_context(way)
            except KubeError as error:
                raise CommandError(
                    f"the router of pool {pool} cannot be reached: {error}; see "
                    f"`sage pool get {pool}`"
                ) from error
            yield Server(f"the router of pool {pool}", f"http://127.0.0.1:{port}/v1", keys)


class _Breaks:
    """Says once why the way to a router broke: the client sees only a connection that ends."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._last = ""

    def __call__(self, error: "KubeError") -> None:
        sentence = f"sage: the way to the router of pool {self._pool} broke: {error}"
        if sentence != self._last:
            self._last = sentence
            print(sentence, file=sys.stderr)
