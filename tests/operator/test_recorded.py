"""Which changes of a group build its pods anew."""

from typing import Any

import pytest

from crd_objects import cloud_object, group_object, mixed_group_object, pool_object
from sagepool_crds.pool import InferencePool
from sagepool_operator.recorded import group_digest

WITH_GPU = group_object(
    engine={"type": "vllm", "args": ["--x=1"], "env": [{"name": "A", "value": "1"}]},
    model={
        "name": "m",
        "uri": "hf://o/m",
        "aliases": ["n"],
        "revision": "main",
        "tokenSecret": {"name": "hf", "key": "token"},
    },
    gpu={"count": 2, "memoryFraction": 0.9},
    replicas=3,
    maxConcurrency=9,
)


def digest_of(group: dict[str, Any], **spec: Any) -> str:
    pool = InferencePool.from_object(pool_object(groups=[group], **spec))
    return group_digest(pool, pool.spec.groups[0])


@pytest.mark.parametrize(
    ("group", "released"),
    [
        (group_object(), "1c63004564c8fa52a5769b7de87967f3"),
        (WITH_GPU, "8bfec4c4c8d146f1290d8a2f1a92b5c2"),
    ],
    ids=["simulator", "vllm"],
)
def test_digest_is_that_of_the_first_release(group: dict[str, Any], released: str) -> None:
    """Another digest would build every engine of every pool anew after an upgrade."""
    assert digest_of(group) == released


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": {"count": 2, "memoryFraction": 0.9, "pricePerHour": 3}},
        {"gpu": {"count": 2, "memoryFraction": 0.9, "memory": "80Gi"}},
        {"model": {**WITH_GPU["model"], "aliases": []}},
        {"replicas": 1},
        {"rollout": {"maxSurge": 2, "maxUnavailable": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_pods_know_nothing_of_is_not_in_it(change: dict[str, Any]) -> None:
    assert digest_of({**WITH_GPU, **change}) == digest_of(WITH_GPU)


def test_podtemplate_is_in_it() -> None:
    def patched(**spec: Any) -> str:
        return digest_of({**WITH_GPU, "podTemplate": {"spec": spec}})

    assert patched(nodeSelector={"a": "b"}) != digest_of(WITH_GPU)
    assert patched(nodeSelector={"a": "b"}) != patched(nodeSelector={"a": "c"})
    assert patched(hostPID=False, hostIPC=False) == patched(hostIPC=False, hostPID=False)


def test_how_long_a_pod_may_drain_is_in_it() -> None:
    drained = digest_of({**WITH_GPU, "rollout": {"drainSeconds": 60}})
    assert drained != digest_of(WITH_GPU)
    surged = {"maxSurge": 2, "drainSeconds": 60}
    assert digest_of({**WITH_GPU, "rollout": surged}) == drained


def test_aliases_of_the_second_model_are_not_in_it_and_its_name_is() -> None:
    def second(**model: Any) -> str:
        return digest_of(mixed_group_object(embeddingModel={"name": "bge", **model}))

    assert second(aliases=["ada"]) == second()
    assert second(name="other") != second()


def test_what_the_pool_says_beside_the_group_is_not_in_it() -> None:
    pool = {
        "scheduling": {"policy": "fifo"},
        "source": "cloud",
        "cloud": cloud_object(),
        "router": {"auth": {"apiKeysSecret": "keys"}},
    }
    assert digest_of(WITH_GPU, **pool) == digest_of(WITH_GPU)
