"""`sage instance`: engines of the cluster's pools."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sagepool.cli import output
from sagepool.cli.cluster import (
    FIELD_MANAGER,
    KubeconfigOption,
    NamespaceOption,
    Target,
    age,
    in_cluster,
    without_bookkeeping,
)
from sagepool.cli.output import Output, columns
from sagepool.cli.values import object_name, required_name

if TYPE_CHECKING:
    from sagepool_kube.api import Object

_WATCH_S: Final = 2.0

app: Final = typer.Typer(help="Engines of the cluster's pools.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The instance.", callback=required_name)]


@app.command("list")
def list_instances(
    pool: Annotated[
        str,
        typer.Option("--pool", help="Of one pool.", show_default=False, callback=object_name),
    ] = "",
    form: Annotated[
        Output, typer.Option("--output", "-o", help="The form of the output.")
    ] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")] = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List instances: phase, load, and what is wrong."""
    output.show(
        lambda: in_cluster(lambda target: read_instances(target, pool), namespace, kubeconfig),
        _table,
        form,
        _WATCH_S if watch else None,
    )


@app.command()
def drain(name: Name, namespace: NamespaceOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """Send no new request to an instance; those under way finish (spec.drain: true)."""
    _set_drain(name, True, namespace, kubeconfig)
    print(f"instance {name} takes no new requests: `sage instance undrain {name}` ends that")


@app.command()
def undrain(name: Name, namespace: NamespaceOption = "", kubeconfig: KubeconfigOption = "") -> None:
    """Send requests to an instance again (spec.drain: false)."""
    _set_drain(name, False, namespace, kubeconfig)
    print(f"instance {name} takes requests again")


async def read_instances(target: Target, pool: str = "") -> "list[Object]":
    """The instances of the namespace, or of one pool, by name.

    Raises:
        NothingFound: there is no such pool.
    """
    from sagepool_kube.api import INSTANCES, POOLS

    if pool:
        await target.get(POOLS, pool)
    found = await target.list(INSTANCES)
    return [without_bookkeeping(i) for i in found if pool in ("", i["spec"]["poolRef"])]


def _set_drain(name: str, drained: bool, namespace: str, kubeconfig: str) -> None:
    from sagepool_kube.api import INSTANCES

    async def work(target: Target) -> None:
        await target.get(INSTANCES, name)
        operations = [{"op": "add", "path": "/spec/drain", "value": drained}]
        await target.api.patch(
            INSTANCES, target.namespace, name, operations, field_manager=FIELD_MANAGER
        )

    in_cluster(work, namespace, kubeconfig)


def _table(instances: "Sequence[Object]") -> str:
    if not instances:
        return "no instances"
    rows = []
    for obj in instances:
        status, load = obj.get("status", {}), obj.get("status", {}).get("load") or {}
        rows.append(
            [
                obj["metadata"]["name"],
                obj["spec"]["poolRef"],
                status.get("roles"),
                status.get("modelNames"),
                status.get("phase"),
                "yes" if obj["spec"].get("drain") else "no",
                load.get("running"),
                load.get("waiting"),
                age(obj),
                status.get("message"),
            ]
        )
    head = (
        "NAME", "POOL", "ROLE", "MODELS", "PHASE", "DRAINED", "RUNNING", "WAITING", "AGE", "MESSAGE"
    )  # fmt: skip
    return columns(head, rows)
