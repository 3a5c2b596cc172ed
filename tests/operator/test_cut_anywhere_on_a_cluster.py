"""The operator ends at every write there is, before a real API server: another does the rest.

`test_cut_anywhere.py` tells many more stories, to an API server in memory. Here the server is real,
and so are the controllers that go on meanwhile. No pod finds a node: what is looked at are objects.
"""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

import pytest

from crd_objects import group_object, pool_object
from cutting_proxy import cutting_proxy
from kubectl import Kubectl
from operator_faults import Loss
from operator_world import IMAGES
from sagepool_crds import names
from sagepool_kube.api import EVENTS, INSTANCES, PODS, POOLS, Kind, Object
from sagepool_kube.auth import load_configuration
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import NotFound
from sagepool_operator.config import Settings
from sagepool_operator.runtime import Operator
from sagepool_operator.snapshot import CHILD_KINDS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

LOSSES: Final[tuple[Loss, ...]] = get_args(Loss)
REPLICA_SETS: Final = Kind("apps", "v1", "ReplicaSet", "replicasets")
KINDS: Final = (*CHILD_KINDS, REPLICA_SETS, PODS, INSTANCES, POOLS)
PATIENCE_S: Final = 20.0
QUIET_S: Final = 1.5

NOWHERE: Final = {"spec": {"nodeSelector": {"sagepool.invalid/node": "none"}}}
CHAT: Final = group_object(
    replicas=1, rollout={"maxSurge": 0, "maxUnavailable": 1}, podTemplate=NOWHERE
)
NO_ROOM: Final = {"requests": {"cpu": "1000"}}
ROLLED: Final = {**CHAT, "model": {"name": "other"}}
SCALED: Final = {**CHAT, "replicas": 3}

Spec: TypeAlias = dict[str, Any] | None
"""Of a pool's one group; None: there is no pool."""
State: TypeAlias = Counter[str]
"""Objects in words, and how many there are of each: the cluster names pods at random."""


def spec(group: dict[str, Any]) -> dict[str, Any]:
    return {"groups": [group], "router": {"replicas": 1, "resources": NO_ROOM}}


class Pool:
    """A pool of the real cluster, looked at and changed without a detour."""

    def __init__(self, api: KubeClient, kubeconfig: Path, namespace: str) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    async def become(self, group: Spec) -> None:
        """Do what a person does."""
        if group is None:
            with suppress(NotFound):
                await self.api.delete(POOLS, self.namespace, "rag")
            return
        obj = pool_object(**spec(group))
        obj["metadata"]["namespace"] = self.namespace
        await self.api.apply(POOLS, self.namespace, obj, field_manager="a-person")

    async def objects(self) -> list[Object]:
        found = await asyncio.gather(*(self.api.list(kind, self.namespace) for kind in KINDS))
        named = [one for each in found for one in each.items]
        return [one for one in named if one["metadata"]["name"].startswith("rag")]

    async def state(self) -> State:
        """All that there is, without what differs from run to run."""
        objects = await self.objects()
        by_uid = {one["metadata"]["uid"]: one["metadata"]["name"] for one in objects}
        return Counter(plain(one, by_uid) for one in objects)

    async def events(self) -> Counter[tuple[str, str, str]]:
        """What the operator has told."""
        found = await self.api.list(EVENTS, self.namespace)
        return Counter(
            (plain_text(one["regarding"]["name"]), one["reason"], plain_text(one["note"]))
            for one in found.items
            if one.get("reportingController") == "sagepool.dev/operator"
        )


def plain_text(text: str) -> str:
    return re.sub(r"(rag-(?:chat|router)-[0-9a-f]{8,10})-\w{5}\b", r"\1-<id>", text)


def plain(obj: Object, by_uid: dict[str, str]) -> str:
    meta = obj["metadata"]
    kept: dict[str, Any] = {
        "name": meta["name"],
        "labels": meta.get("labels"),
        "owners": [by_uid.get(owner["uid"], "<gone>") for owner in meta.get("ownerReferences", ())],
        "managers": sorted(
            {one["manager"] for one in meta.get("managedFields", ()) if "sage" in one["manager"]}
        ),
        "spec": obj.get("spec"),
        "rules": obj.get("rules"),
    }
    if obj["kind"] in (names.POOL_KIND, names.INSTANCE_KIND):
        status = obj.get("status", {})
        kept["conditions"] = [
            (one["type"], one["status"], one["reason"]) for one in status.get("conditions", ())
        ]
    text = json.dumps(kept, sort_keys=True)
    text = re.sub(r'"clusterIPs?": (\[.*?\]|".*?")', '"clusterIP": ""', text)
    text = re.sub(r"kube-api-access-\w+", "kube-api-access", text)
    return f"{obj['kind']} {plain_text(text)}"


@pytest.fixture
async def pool(kubeconfig: Path, namespace: Kubectl) -> AsyncIterator[Pool]:
    configuration = await load_configuration({}, kubeconfig=kubeconfig)
    async with KubeClient(configuration) as api:
        yield Pool(api, kubeconfig, namespace.namespace)


class Operators:
    """One operator after another, each with a way of its own to the API server."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._present = AsyncExitStack()

    async def start(self) -> None:
        """Start one; what there was ends."""
        await self._present.aclose()
        self.way = await self._present.enter_async_context(cutting_proxy(self._pool.kubeconfig))
        configuration = self.way.configuration()
        api = await self._present.enter_async_context(KubeClient(configuration))
        self._operator = Operator(api, Settings(images=IMAGES, namespace=self._pool.namespace))
        self._operator.start()
        self._present.push_async_callback(self._operator.stop)

    async def stop(self) -> None:
        """End the present one."""
        await self._present.aclose()

    @property
    def is_idle(self) -> bool:
        """Whether it has looked at all that there is."""
        health = self._operator.health()
        return bool(health["synced"] and not health["queueDepth"])


@pytest.fixture
async def operators(pool: Pool) -> AsyncIterator[Operators]:
    operators = Operators(pool)
    await operators.start()
    yield operators
    await operators.stop()


async def wait(is_so: Callable[[], Awaitable[bool]], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await is_so():
        assert time.monotonic() < deadline, f"not in time: {what()}"
        await asyncio.sleep(0.05)


async def settled(pool: Pool, operators: Operators) -> State:
    """What there is when all has been done, by the operator and by the cluster."""
    seen, since = await pool.state(), time.monotonic()

    async def is_quiet() -> bool:
        nonlocal seen, since
        now = await pool.state()
        if now != seen or not operators.is_idle:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_S

    await wait(is_quiet, lambda: "nothing changes any more")
    return seen


async def wait_for(wanted: State, pool: Pool, operators: Operators) -> None:
    """Wait until all is as wanted and nothing is left to do, or the operator is cut off."""
    seen: State = Counter()

    async def is_there() -> bool:
        nonlocal seen
        if operators.way.has_cut:
            return True
        seen = await pool.state()
        return seen == wanted and operators.is_idle

    await wait(is_there, lambda: {"missing": wanted - seen, "too much": seen - wanted})


async def survives(
    spec: Spec, wanted: State, at: int, loss: Loss, pool: Pool, operators: Operators
) -> bool:
    """Cut at a write of what follows from a spec, and let another operator do the rest.

    Returns whether there were so many writes.
    """
    told = await pool.events()
    first = operators.way
    first.made.clear()
    first.cut_at(at, loss)
    await pool.become(spec)
    await wait_for(wanted, pool, operators)
    if first.has_cut:
        await operators.start()
        await wait_for(wanted, pool, operators)
        # Events have names by chance: what they say is looked at.
        made = first.made + operators.way.made
        assert {path: n for path, n in made.items() if n > 1 and EVENTS.plural not in path} == {}
        twice = {event for event, times in (await pool.events() - told).items() if times > 1}
        assert twice == set()
    return first.has_cut


BOTH: Final = [(loss, loss) for loss in LOSSES]
ONE_EACH_WAY: Final = [LOSSES]


@pytest.mark.parametrize(
    ("before", "after", "losses"),
    [
        pytest.param(None, CHAT, BOTH, id="create and delete"),
        pytest.param(CHAT, ROLLED, ONE_EACH_WAY, id="roll"),
        pytest.param(CHAT, SCALED, ONE_EACH_WAY, id="scale up and down"),
    ],
)
async def test_operator_that_ends_at_any_write_is_followed_by_one_that_does_the_rest(
    pool: Pool, operators: Operators, before: Spec, after: Spec, losses: list[tuple[Loss, Loss]]
) -> None:
    wanted: list[tuple[Spec, State]] = []
    for spec in (before, after, before):  # what has been rolled leaves a ReplicaSet behind
        await pool.become(spec)
        wanted.append((spec, await settled(pool, operators)))
    for there_and_back in losses:
        ways = list(zip(wanted[1:], there_and_back, strict=True))
        for at in itertools.count(1):
            cuts = [await survives(*end, at, loss, pool, operators) for end, loss in ways]
            if not any(cuts):
                break
        assert at > 1
