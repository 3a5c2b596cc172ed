"""A right that the operator loses while it runs, and gets back."""

from typing import Any, Final

from kube_fake import FakeKube
from operator_running import idle, is_ready, play_until, running
from operator_waiting import until
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import DEPLOYMENTS, EVENTS, POOLS, SERVICES, Kind, Object
from sagepool_kube.errors import Forbidden

CANNOT: Final = (
    'apply Deployment default/{}: deployments.apps "{}" is forbidden: User '
    '"system:serviceaccount:sagepool:operator" cannot patch resource "deployments" in API group '
    '"apps" (403)'
)


class KubeWithRights(FakeKube):
    """An API server that may take the right to patch Deployments."""

    def __init__(self) -> None:
        super().__init__()
        self.may_patch = True

    async def apply(self, kind: Kind, namespace: str | None, obj: Object, **options: Any) -> Object:
        if kind == DEPLOYMENTS and not self.may_patch:
            name = obj["metadata"]["name"]
            raise Forbidden(CANNOT.format(name, name))
        return await super().apply(kind, namespace, obj, **options)


def apply_another_pool(kube: FakeKube) -> None:
    pool = kube.read(POOLS, KEY.namespace, KEY.name)
    kube.put(POOLS, {**pool, "metadata": {"name": "other", "namespace": KEY.namespace}})


def service_names(kube: FakeKube) -> set[str]:
    return {one["metadata"]["name"] for one in kube.all(SERVICES)}


def other_is_ready(kube: FakeKube) -> bool:
    return InferencePool.from_object(kube.read(POOLS, KEY.namespace, "other")).status.ready == "3/3"


async def test_is_named_in_the_clusters_words_until_it_is_back_and_holds_up_no_other_pool() -> None:
    kube = KubeWithRights()
    world = World(kube=kube)
    world.apply_pool()
    apply_another_pool(kube)
    async with running(kube) as operator:
        await play_until(world, is_ready(world))
        await play_until(world, lambda: other_is_ready(kube))
        await idle(operator)

        kube.may_patch = False
        world.edit_group("chat", replicas=3)
        await until(lambda: world.condition(names.READY) == ("False", "WriteRefused"))
        assert CANNOT.format("rag-chat", "rag-chat") in world.message()
        assert "give the operator's service account this right" in world.message()

        kube.remove(SERVICES, KEY.namespace, "other-router")
        await until(lambda: "other-router" in service_names(kube))
        assert not operator.failed.is_set()

        kube.may_patch = True  # nothing tells the operator: it tries again by itself
        await play_until(world, is_ready(world, "4/4"))
    told = [one["note"] for one in kube.all(EVENTS) if one["reason"] == "WriteRefused"]
    assert len(told) == 1
