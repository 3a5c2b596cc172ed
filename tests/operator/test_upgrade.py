"""A pool that a former version of the operator has made, under this version.

Each file of versions/ is what one version left behind; support/recorded_version.py writes them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from operator_world import KEY, World
from recorded_version import recall
from sagepool_crds import names
from sagepool_crds.admission import admit
from sagepool_kube.api import DEPLOYMENTS, PODS, POOLS, Object
from sagepool_operator.config import Images

VERSIONS: Final = sorted(Path(__file__).with_name("versions").glob("*.json"))
ENGINES: Final = ("rag-chat", "rag-embed", "rag-mixed")
NEXT: Final = Images(own="registry/sagepool:next", vllm="vllm:next", tei_cpu="tei:next")


@pytest.fixture(params=VERSIONS, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text())
    return found


@pytest.fixture
async def upgraded(recorded: Mapping[str, Any]) -> World:
    """Today's operator, with other images, has taken over what the former one has made."""
    world = World(images=NEXT)
    recall(world.kube, recorded)
    world.kube.arrivals.clear()
    world.probes.track(KEY, ())
    await world.settle()
    return world


def template(world: World, deployment: str) -> Object:
    found: Object = world.deployment(deployment)["spec"]["template"]
    return found


def of_record(recorded: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = [one["object"] for one in recorded["objects"] if one["object"]["kind"] == kind]
    return {one["metadata"]["name"]: one for one in found}


def new_pods(world: World) -> set[str]:
    """The groups that have got new pods; the router's are left out."""
    pods = [name.rsplit("-", 2)[0] for name in world.kube.arrivals if name.startswith("Pod ")]
    return {name.removeprefix("Pod default/rag-") for name in pods} - {"router"}


def test_there_is_a_record_of_a_former_version() -> None:
    assert VERSIONS


async def test_no_engine_is_rolled_and_the_router_is(
    upgraded: World, recorded: Mapping[str, Any]
) -> None:
    former = of_record(recorded, DEPLOYMENTS.kind)
    for name in ENGINES:
        assert template(upgraded, name) == former[name]["spec"]["template"]
        assert upgraded.deployment(name)["metadata"]["uid"] == former[name]["metadata"]["uid"]
    assert new_pods(upgraded) == set()
    assert of_record(recorded, PODS.kind).keys() >= {
        p["metadata"]["name"] for group in ("chat", "embed", "mixed") for p in upgraded.pods(group)
    }
    assert template(upgraded, "rag-router")["spec"]["containers"][0]["image"] == NEXT.own


async def test_the_pool_stays_ready_and_settles_without_a_write(upgraded: World) -> None:
    assert upgraded.condition(names.READY) == ("True", "AllReady")
    assert upgraded.status.ready == "4/4"
    upgraded.kube.calls.clear()
    await upgraded.reconcile()
    assert upgraded.kube.calls == []


async def test_a_change_rolls_its_group_alone_to_what_is_made_today(
    upgraded: World, recorded: Mapping[str, Any]
) -> None:
    former = of_record(recorded, DEPLOYMENTS.kind)
    engine = {"type": "vllm", "args": ["--max-model-len=4096"]}
    upgraded.edit_group("chat", engine=engine)
    await upgraded.settle()
    assert new_pods(upgraded) == {"chat"}
    made = template(upgraded, "rag-chat")["spec"]
    assert made["containers"][0]["image"] == NEXT.vllm
    assert made["initContainers"][0]["image"] == NEXT.own
    assert template(upgraded, "rag-embed") == former["rag-embed"]["spec"]["template"]
    assert upgraded.condition(names.READY) == ("True", "AllReady")


async def test_scaling_keeps_the_engines_as_they_were_made(
    upgraded: World, recorded: Mapping[str, Any]
) -> None:
    former = of_record(recorded, DEPLOYMENTS.kind)
    upgraded.edit_group("chat", replicas=3)
    await upgraded.settle()
    assert template(upgraded, "rag-chat") == former["rag-chat"]["spec"]["template"]
    assert len(upgraded.pods("chat")) == 3


async def test_whoever_asks_gets_todays_engines(upgraded: World) -> None:
    upgraded.edit_pool(
        lambda pool: pool["metadata"].update(annotations={names.REFRESH_ANNOTATION: "1"})
    )
    await upgraded.settle()
    assert new_pods(upgraded) == {"chat", "embed", "mixed"}
    assert template(upgraded, "rag-embed")["spec"]["containers"][0]["image"] == NEXT.tei_cpu
    assert upgraded.condition(names.READY) == ("True", "AllReady")


async def test_the_pool_is_still_one_that_the_api_server_takes(
    recorded: Mapping[str, Any],
) -> None:
    (pool,) = of_record(recorded, POOLS.kind).values()
    admit(pool, old=pool)
