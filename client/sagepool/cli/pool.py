"""`sage pool`: pools of the cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sagepool.cli import output
from sagepool.cli.cluster import (
    FIELD_MANAGER,
    Json,
    KubeconfigOption,
    NamespaceOption,
    Target,
    age,
    condition,
    in_cluster,
    since,
    without_bookkeeping,
)
from sagepool.cli.output import Output, columns
from sagepool.cli.values import required_name
from sagepool.laptop.errors import NothingFound, WrongUse

if TYPE_CHECKING:
    from sagepool_kube.api import Object

_WATCH_S: Final = 2.0
_SOURCES: Final = ("auto", "local", "cloud")

app: Final = typer.Typer(help="Pools of the cluster.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The pool.", callback=required_name)]
Form = Annotated[Output, typer.Option("--output", "-o", help="The form of the output.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")]


@app.command("list")
def list_pools(
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")
    ] = False,
    form: Form = Output.TABLE,
    watch: Watch = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List pools."""
    from sagepool_kube.api import POOLS

    if everywhere and namespace:
        raise WrongUse("give --all-namespaces or --namespace, not both")

    async def read(target: Target) -> "list[Object]":
        found = await target.list(POOLS, everywhere=everywhere)
        return [without_bookkeeping(pool) for pool in found]

    output.show(
        lambda: in_cluster(read, namespace, kubeconfig),
        lambda pools: _pool_table(pools, everywhere=everywhere),
        form,
        _WATCH_S if watch else None,
    )


@app.command()
def get(
    name: Name,
    form: Form = Output.TABLE,
    watch: Watch = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Show a pool: what is wrong and what to do, its groups, its models."""
    from sagepool_kube.api import POOLS

    async def read(target: Target) -> dict[str, Any]:
        return without_bookkeeping(await target.get(POOLS, name))

    output.show(
        lambda: in_cluster(read, namespace, kubeconfig),
        _pool_page,
        form,
        _WATCH_S if watch else None,
    )


@app.command()
def delete(name: Name, namespace: NamespaceOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """Delete a pool, its engines and its address."""
    from sagepool_kube.api import POOLS

    async def work(target: Target) -> None:
        await target.get(POOLS, name)
        await target.api.delete(POOLS, target.namespace, name)

    in_cluster(work, namespace, kubeconfig)
    print(f"pool {name} is deleted")


@app.command()
def start(name: Name, namespace: NamespaceOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """Run a pool's engines again (spec.suspend: false)."""
    _set(name, "suspend", False, namespace, kubeconfig)
    print(f"pool {name} starts: see `sage pool get {name} --watch`")


@app.command()
def stop(name: Name, namespace: NamespaceOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """End a pool's engines and keep its address (spec.suspend: true)."""
    _set(name, "suspend", True, namespace, kubeconfig)
    print(f"pool {name} stops: its address stays and answers 503")


@app.command()
def source(
    name: Name,
    who: Annotated[str, typer.Argument(metavar="auto|local|cloud", help="Who may answer.")],
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say who answers: the pool's engines, the provider, or both."""
    if who not in _SOURCES:
        raise WrongUse(f"the source is {who!r}: write one of {', '.join(_SOURCES)}")
    _set(name, "source", who, namespace, kubeconfig)
    print(f"pool {name}: source is {who}")


@app.command()
def scale(
    name: Name,
    sizes: Annotated[list[str], typer.Argument(metavar="GROUP=N...", help="Engines of groups.")],
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Set how many engines groups have."""
    from sagepool_kube.api import POOLS

    wanted = _sizes(sizes)

    async def work(target: Target) -> None:
        pool = await target.get(POOLS, name)
        operations = _scale_operations(pool, wanted)
        await target.api.patch(
            POOLS, target.namespace, name, operations, field_manager=FIELD_MANAGER
        )

    in_cluster(work, namespace, kubeconfig)
    listed = ", ".join(f"{group} {number}" for group, number in wanted.items())
    print(f"pool {name}: {listed}")


@app.command()
def top(
    name: Name,
    form: Form = Output.TABLE,
    watch: Watch = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Show the load of a pool's engines."""
    from sagepool.cli.instance import read_instances

    output.show(
        lambda: in_cluster(lambda target: read_instances(target, name), namespace, kubeconfig),
        _load_table,
        form,
        _WATCH_S if watch else None,
    )


@app.command()
def events(
    name: Name,
    form: Form = Output.TABLE,
    watch: Watch = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Show what happened to a pool and its instances, the latest last."""
    from sagepool.cli.instance import read_instances
    from sagepool_crds import names
    from sagepool_kube.api import EVENTS, POOLS

    async def read(target: Target) -> "list[Object]":
        await target.get(POOLS, name)
        instances = {obj["metadata"]["name"] for obj in await read_instances(target, name)}
        wanted = {(names.POOL_KIND, name), *((names.INSTANCE_KIND, one) for one in instances)}
        found = [event for event in await target.list(EVENTS) if _regarding(event) in wanted]
        return sorted(map(without_bookkeeping, found), key=_moment)

    output.show(
        lambda: in_cluster(read, namespace, kubeconfig),
        _event_table,
        form,
        _WATCH_S if watch else None,
    )


def _set(name: str, field: str, value: object, namespace: str, kubeconfig: str) -> None:
    from sagepool_kube.api import POOLS

    async def work(target: Target) -> None:
        await target.get(POOLS, name)
        operations = [{"op": "add", "path": f"/spec/{field}", "value": value}]
        await target.api.patch(
            POOLS, target.namespace, name, operations, field_manager=FIELD_MANAGER
        )

    in_cluster(work, namespace, kubeconfig)


def _sizes(texts: Sequence[str]) -> dict[str, int]:
    """How many engines by group."""
    wanted: dict[str, int] = {}
    for group, number in map(_size, texts):
        if group in wanted:
            raise WrongUse(f"group {group} is given twice: write GROUP=N once for each")
        wanted[group] = number
    return wanted


def _size(text: str) -> tuple[str, int]:
    group, equals, number = text.partition("=")
    if not (group and equals and number.isascii() and number.isdecimal()):
        raise WrongUse(f"{text!r} is no size: write GROUP=N, for example chat=3")
    return group, int(number)


def _scale_operations(pool: Json, wanted: dict[str, int]) -> list[dict[str, Any]]:
    """A patch that fails when the groups have changed places meanwhile."""
    places = {group["name"]: index for index, group in enumerate(pool["spec"]["groups"])}
    operations: list[dict[str, Any]] = []
    for group, number in wanted.items():
        if group not in places:
            known = ", ".join(places)
            raise NothingFound(f"the pool has no group {group}: there are {known}")
        path = f"/spec/groups/{places[group]}"
        operations.append({"op": "test", "path": f"{path}/name", "value": group})
        operations.append({"op": "add", "path": f"{path}/replicas", "value": number})
    return operations


def _pool_table(pools: "Sequence[Object]", *, everywhere: bool) -> str:
    if not pools:
        return "no pools"
    head = ["NAME", "READY", "MODELS", "SOURCE", "ENDPOINT", "STATUS", "AGE"]
    rows = []
    for pool in pools:
        status = pool.get("status", {})
        row = [
            pool["metadata"]["name"],
            status.get("ready"),
            status.get("modelNames"),
            pool["spec"].get("source"),
            status.get("endpoint"),
            condition(pool, "Ready").get("reason"),
            age(pool),
        ]
        rows.append([pool["metadata"]["namespace"], *row] if everywhere else row)
    return columns(["NAMESPACE", *head] if everywhere else head, rows)


def _pool_page(pool: Json) -> str:
    status = pool.get("status", {})
    ready = condition(pool, "Ready")
    lines = [
        f"{pool['metadata']['name']}: {ready.get('reason', 'not seen by the operator yet')}"
        f", {status.get('ready') or '0/0'} ready, source {pool['spec'].get('source')}",
        *([ready["message"]] if ready.get("message") else []),
        *([f"endpoint {status['endpoint']}"] if status.get("endpoint") else []),
    ]
    groups = status.get("groups") or ()
    models = status.get("models") or ()
    conditions = status.get("conditions") or ()
    tables = [
        columns(
            ("GROUP", "DESIRED", "READY", "UPDATED", "MESSAGE"),
            [
                [g.get(k) for k in ("name", "desired", "ready", "updated", "message")]
                for g in groups
            ],
        ),
        columns(
            ("MODEL", "ROLE", "READY", "DESIRED", "SOURCE"),
            [[m.get(k) for k in ("name", "role", "ready", "desired", "source")] for m in models],
        ),
        columns(
            ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"),
            [
                [c["type"], c["status"], c["reason"], since(c["lastTransitionTime"]), c["message"]]
                for c in conditions
            ],
        ),
    ]
    shown = [table for table in tables if "\n" in table]
    return "\n\n".join(["\n".join(lines), *shown])


def _load_table(instances: "Sequence[Object]") -> str:
    if not instances:
        return "no instances"
    rows = []
    for obj in instances:
        status, load = obj.get("status", {}), obj.get("status", {}).get("load") or {}
        rows.append(
            [
                obj["metadata"]["name"],
                obj["spec"].get("group"),
                status.get("modelNames"),
                status.get("phase"),
                load.get("running"),
                load.get("waiting"),
                load.get("kvCacheUsage"),
                obj["spec"].get("maxConcurrency"),
            ]
        )
    head = ("INSTANCE", "GROUP", "MODELS", "PHASE", "RUNNING", "WAITING", "KV", "LIMIT")
    return columns(head, rows)


def _event_table(found: "Sequence[Object]") -> str:
    if not found:
        return "no events"
    rows = [
        [
            since(moment) if (moment := _moment(event)) else "",
            event.get("type"),
            event.get("reason"),
            "/".join(_regarding(event)),
            event.get("note"),
        ]
        for event in found
    ]
    return columns(("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"), rows)


def _regarding(event: Json) -> tuple[str, str]:
    regarding = event.get("regarding") or {}
    return str(regarding.get("kind", "")), str(regarding.get("name", ""))


def _moment(event: Json) -> str:
    series = event.get("series") or {}
    for stamp in (
        series.get("lastObservedTime"),
        event.get("eventTime"),
        event.get("deprecatedLastTimestamp"),
        event["metadata"].get("creationTimestamp"),
    ):
        if stamp:
            return str(stamp)
    return ""
