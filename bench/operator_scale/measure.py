"""Brings pools up beside bare Deployments, watches them, and changes them one after another."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from bench.errors import LoadFailed
from bench.operator_scale import objects
from bench.operator_scale.figures import Figures
from bench.processes import Running
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, PODS, POOLS, Kind, KubeApi, Object
from sagepool_kube.reflector import Reflector

BARE: Final = "bench-bare"
POOLED: Final = "bench-pools"
_LIMIT_S: Final = 600.0
_AT_ONCE: Final = 16
_REST_S: Final = 15.0
"""After the last pool was ready: what is under way may end."""
_PAUSE_S: Final = 0.2
"""Between two changes."""
_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Size:
    """How much is brought up."""

    pools: int
    engines_each: int
    watched_s: float

    @property
    def names(self) -> Sequence[str]:
        """Of the pools."""
        return [f"pool-{number:03d}" for number in range(self.pools)]


class Followed:
    """Objects of one kind in a namespace, as the API server tells of them."""

    def __init__(self, api: KubeApi, kind: Kind, namespace: str) -> None:
        self._changed = asyncio.Event()
        self._reflector: Reflector[Object] = Reflector(
            api, kind, namespace, project=lambda obj: obj, on_change=self._note
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Followed"]:
        """Follow while inside."""
        task = asyncio.create_task(self._reflector.run())
        try:
            await asyncio.wait_for(self._reflector.synced.wait(), 60)
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._reflector.store)

    def count(self, holds: Callable[[Object], bool]) -> int:
        """How many are so."""
        return sum(holds(obj) for obj in self._reflector.store.values())

    def holds(self, name: str, claim: Callable[[Object], bool]) -> bool:
        """Whether the one of that name is so."""
        return any(key[1] == name and claim(obj) for key, obj in self._reflector.store.items())

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until the objects are so."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise LoadFailed(f"{what}: not within {_LIMIT_S:.0f} s") from error

    def _note(self, old: Object | None, new: Object | None) -> None:
        self._changed.set()


def following(api: KubeApi, kind: Kind, namespace: str) -> AbstractAsyncContextManager[Followed]:
    """Follow objects while inside."""
    return Followed(api, kind, namespace).running()


async def make_nodes(api: KubeApi, nodes: Sequence[str]) -> None:
    """Nodes with room for all, and the two namespaces."""
    for name in nodes:
        await api.apply(objects.NODES, None, objects.node(name))
        status = objects.node_status(name, datetime.now(UTC))
        await api.apply(objects.NODES, None, status, subresource="status")
    for name in (BARE, POOLED):
        await api.apply(objects.NAMESPACES, None, objects.namespace(name))


async def bring_up_bare(api: KubeApi, size: Size) -> float:
    """Seconds until Deployments have all their pods ready; they are taken away again."""
    wanted = [d for name in size.names for d in objects.deployments(BARE, name, size.engines_each)]
    async with following(api, DEPLOYMENTS, BARE) as deployments, following(api, PODS, BARE) as pods:
        began_s = time.monotonic()
        await _all(api.apply(DEPLOYMENTS, BARE, one) for one in wanted)
        await deployments.until(
            lambda: deployments.count(_is_complete) == len(wanted),
            "bare Deployments have their pods",
        )
        took_s = time.monotonic() - began_s
        await _all(api.delete(DEPLOYMENTS, BARE, one["metadata"]["name"]) for one in wanted)
        await pods.until(lambda: not len(pods), "the pods of bare Deployments are gone")
    return took_s


async def measure_pools(
    api: KubeApi, size: Size, operator: Running, audit_log: Path, bare_s: float
) -> Figures:
    """Bring the pools up under a running operator, watch them, and change each."""
    async with following(api, DEPLOYMENTS, POOLED) as deployments:
        audit = Audit(audit_log)
        cpu_s = operator.usage().cpu_s
        settled_s = await _settle(api, size, deployments)
        settling_cpu_s, settling_writes = operator.usage().cpu_s - cpu_s, audit.writes()
        await asyncio.sleep(_REST_S)
        operator.check()
        audit, cpu_s = Audit(audit_log), operator.usage().cpu_s
        await asyncio.sleep(size.watched_s)
        writes, cpu_s = audit.writes(), operator.usage().cpu_s - cpu_s
        acted_ms = await _change(api, size)
    operator.check()
    return Figures(
        pools=size.pools,
        engines=size.pools * size.engines_each,
        bare_s=bare_s,
        settled_s=settled_s,
        settling_cpu_s=settling_cpu_s,
        settling_writes=settling_writes,
        watched_s=size.watched_s,
        writes=writes,
        cpu_s=cpu_s,
        rss_bytes=_most_rss(operator.process.pid),
        acted_ms=acted_ms,
    )


async def _settle(api: KubeApi, size: Size, deployments: Followed) -> float:
    async with following(api, POOLS, POOLED) as pools:
        began_s = time.monotonic()
        made = (objects.pool(POOLED, name, size.engines_each) for name in size.names)
        await _all(api.apply(POOLS, POOLED, one, field_manager="bench") for one in made)
        await pools.until(lambda: pools.count(objects.is_ready) == size.pools, "pools are ready")
        await deployments.until(
            lambda: deployments.count(_is_complete) == 2 * size.pools, "Deployments have all pods"
        )
        return time.monotonic() - began_s


async def _change(api: KubeApi, size: Size) -> list[float]:
    """Give each pool one more engine, and wait until its Deployment asks for it."""
    more = size.engines_each + 1

    def asks_for_more(deployment: Object) -> bool:
        return bool(deployment["spec"].get("replicas") == more)

    taken_ms = []
    async with following(api, DEPLOYMENTS, POOLED) as deployments:
        for name in size.names:
            changed = partial(
                deployments.holds, names.group_name(name, objects.GROUP), asks_for_more
            )
            wanted = objects.pool(POOLED, name, more)
            await api.apply(POOLS, POOLED, wanted, field_manager="bench")
            began_s = time.monotonic()
            await deployments.until(changed, f"{name} has changed")
            taken_ms.append(1e3 * (time.monotonic() - began_s))
            await asyncio.sleep(_PAUSE_S)
    return taken_ms


class Audit:
    """What the API server has written down since this was made."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size

    def writes(self) -> int:
        """Of the operator."""
        with self._log.open() as lines:
            lines.seek(self._at)
            entries = (json.loads(line) for line in lines if '"sagepool-operator"' in line)
            return sum(
                entry["verb"] in _WRITES and entry["stage"] == "ResponseComplete"
                for entry in entries
            )


def _is_complete(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    wanted: int = deployment["spec"]["replicas"]
    return bool(status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == wanted)


def _most_rss(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) << 10


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Awaitable[object]) -> None:
        async with turns:
            await call

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(one(call))
