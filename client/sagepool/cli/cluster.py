"""The cluster that commands speak to: the current context of the kubeconfig."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import typer

from sagepool.cli.values import existing_kubeconfig, object_name
from sagepool.laptop.errors import CommandError, NothingFound, WrongUse

if TYPE_CHECKING:
    from sagepool_kube.api import Kind, Object
    from sagepool_kube.client import KubeClient

T = TypeVar("T")

FIELD_MANAGER: Final = "sage"
"""Who the fields that these commands set belong to."""

NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        help="The context's when left out.",
        show_default=False,
        callback=object_name,
    ),
]
KubeconfigOption = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        help="In place of KUBECONFIG.",
        show_default=False,
        callback=existing_kubeconfig,
    ),
]
Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster and a namespace in it."""

    api: "KubeClient"
    namespace: str

    async def get(self, kind: "Kind", name: str) -> "Object":
        """Read one object.

        Raises:
            NothingFound: there is none of that name, or the cluster lacks the kind.
        """
        from sagepool_kube.errors import NotFound

        try:
            return await self.api.get(kind, self.namespace, name)
        except NotFound as error:
            raise NothingFound(await self._why_not_found(kind, name)) from error

    async def list(self, kind: "Kind", *, everywhere: bool = False) -> "tuple[Object, ...]":
        """Read all objects of the namespace, or of all.

        Raises:
            NothingFound: the cluster lacks the kind.
        """
        from sagepool_kube.errors import NotFound

        try:
            return (await self.api.list(kind, None if everywhere else self.namespace)).items
        except NotFound as error:
            raise NothingFound(_NO_KIND.format(kind.resource)) from error

    async def _why_not_found(self, kind: "Kind", name: str) -> str:
        known = [str(obj["metadata"]["name"]) for obj in await self.list(kind)]
        there = f"there are {', '.join(sorted(known))}" if known else "there is none"
        return f"no {kind.kind} {name} in namespace {self.namespace}: {there}"


_NO_KIND: Final = (
    "this cluster has no {}: install sagepool there first (helm install sagepool), or choose "
    "another context"
)


def in_cluster(
    work: Callable[[Target], Awaitable[T]], namespace: str = "", kubeconfig: str = ""
) -> T:
    """Do something with the cluster.

    Raises:
        CommandError: the cluster cannot be reached or refuses; the message is its own.
    """
    return asyncio.run(_connected(work, namespace, kubeconfig))


async def _connected(work: Callable[[Target], Awaitable[T]], namespace: str, kubeconfig: str) -> T:
    async with connect(namespace, kubeconfig) as target:
        return await work(target)


@asynccontextmanager
async def connect(namespace: str = "", kubeconfig: str = "") -> AsyncGenerator[Target]:
    """The cluster, while inside.

    Raises:
        WrongUse: nothing says where the cluster is, or it refuses what was asked for.
        CommandError: the cluster cannot be reached or refuses; the message is its own.
    """
    from sagepool_kube.auth import current_namespace, load_configuration
    from sagepool_kube.client import KubeClient
    from sagepool_kube.errors import Conflict, Invalid, KubeError, NoCluster, NotFound

    path = Path(kubeconfig) if kubeconfig else None
    try:
        configuration = await load_configuration(os.environ, kubeconfig=path)
        space = namespace or current_namespace(os.environ, kubeconfig=path)
        async with KubeClient(configuration, user_agent="sage") as api:
            yield Target(api, space)
    except Invalid as error:
        raise WrongUse(str(error)) from error
    except NoCluster as error:
        words = " ".join(str(error).split())  # a parser's are of several lines
        raise WrongUse(f"{words}; see `sage doctor`") from error
    except NotFound as error:
        raise NothingFound(str(error)) from error
    except Conflict as error:
        raise CommandError(str(error)) from error
    except KubeError as error:
        raise CommandError(f"{error}; see `sage doctor`") from error


def condition(obj: Json, type_: str) -> Json:
    """The condition of that type; empty when there is none."""
    found = obj.get("status", {}).get("conditions") or ()
    return next((c for c in found if c["type"] == type_), {})


def age(obj: Json, now: datetime | None = None) -> str:
    """Time since the object was made, as kubectl writes it."""
    stamp = obj["metadata"].get("creationTimestamp")
    return since(stamp, now) if stamp else ""


def since(stamp: str, now: datetime | None = None) -> str:
    """Time since a moment in RFC 3339."""
    moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"


def without_bookkeeping(obj: Json) -> dict[str, Any]:
    """The object without the record of who owns which field."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": metadata}
