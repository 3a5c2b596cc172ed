"""Plays what is not there: the kubelets of the nodes, and the engines and routers in their pods.

    python -m bench.operator_scale.site NETWORK NODE...

Every address of NETWORK leads to this machine. A pod that has come to one of the nodes runs at once
at an address of its own, and is ready when its gates are open, as with a real kubelet.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network
from typing import Final, cast

import uvloop

from bench.operator_scale import objects
from bench.operator_scale.connection import connect
from sagepool_crds import names
from sagepool_kube.api import INSTANCES, LEASES, PODS, KubeApi, Object
from sagepool_kube.errors import KubeError
from sagepool_kube.reflector import Reflector
from sagepool_operator.builders.identity import ROUTER
from sagepool_operator.builders.router import ADMIN_PORT

_HEARTBEAT_S: Final = 10.0
_AT_ONCE: Final = 32
_METRICS: Final = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
_MODELS: Final = json.dumps({"data": [{"id": objects.MODEL}]}).encode()
_ENGINE: Final = {b"/health": b"", b"/v1/models": _MODELS, b"/metrics": _METRICS}

_Pool = tuple[str, str]
"""Namespace and name."""
_Answer = Callable[[bytes], bytes | None]
"""The page of a path; None: there is none."""


class Tables:
    """The instances that each pool's routers send to: those that are Ready."""

    def __init__(self) -> None:
        self._ready: dict[_Pool, set[str]] = {}

    def note(self, old: Object | None, new: Object | None) -> None:
        """Take a change of an instance in."""
        obj = new or old
        if obj is None:
            return
        meta = obj["metadata"]
        ready = self._ready.setdefault((meta["namespace"], obj["spec"]["poolRef"]), set())
        if new is not None and objects.is_ready(new):
            ready.add(meta["name"])
        else:
            ready.discard(meta["name"])

    def answer(self, pool: _Pool, path: bytes) -> bytes | None:
        """What a router of the pool says."""
        if path != b"/admin/routable":
            return None
        return json.dumps({"instances": sorted(self._ready.get(pool, ()))}).encode()


class Kubelets:
    """Runs the pods of the nodes."""

    def __init__(
        self, api: KubeApi, nodes: frozenset[str], network: IPv4Network, tables: Tables
    ) -> None:
        self._api = api
        self._nodes = nodes
        self._tables = tables
        self._free: Iterator[str] = (str(address) for address in network.hosts())
        self._addresses: dict[str, str] = {}
        """By the uid of a pod."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, old: Object | None, new: Object | None) -> None:
        """Take a change of a pod in."""
        if new is None or new["spec"].get("nodeName") not in self._nodes:
            return
        if "deletionTimestamp" in new["metadata"] or objects.is_ready(new):
            return
        task = asyncio.create_task(self._run(new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: Object) -> None:
        uid, where = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        is_new = uid not in self._addresses
        if is_new:
            self._addresses[uid] = next(self._free)
        address = self._addresses[uid]
        says = objects.running(dict(pod), address, datetime.now(UTC))
        if not is_new and not objects.is_ready(says):
            return  # its gate is closed
        async with self._turns:
            if is_new:
                await self._listen(pod, address)
            try:
                await self._api.apply(
                    PODS, where, says, field_manager="kubelet", subresource="status"
                )
            except KubeError as error:
                print(error, file=sys.stderr)

    async def _listen(self, pod: Object, address: str) -> None:
        labels = pod["metadata"]["labels"]
        answer: _Answer = _ENGINE.get
        port = objects.ENGINE_PORT
        if labels[names.COMPONENT_LABEL] == ROUTER:
            pool = (pod["metadata"]["namespace"], labels[names.POOL_LABEL])
            answer, port = partial(self._tables.answer, pool), ADMIN_PORT
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Answering(answer), address, port)

    async def live(self) -> None:
        """Say that the nodes live, until cancelled."""
        while True:
            for name in self._nodes:
                lease = objects.heartbeat(name, datetime.now(UTC))
                await self._api.apply(LEASES, objects.NODE_LEASES, lease, field_manager="kubelet")
            await asyncio.sleep(_HEARTBEAT_S)


class Answering(asyncio.Protocol):
    """An HTTP connection on which short pages are asked for."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole; none of them has a body."""
        self._read += data
        while b"\r\n\r\n" in self._read and self._transport is not None:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            body = self._answer(head.split(b" ", 2)[1])
            status = b"404 Not Found" if body is None else b"200 OK"
            body = body or b""
            self._transport.write(
                b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
            )


async def play(network: IPv4Network, nodes: frozenset[str]) -> None:
    """Play until cancelled."""
    async with connect("bench-site") as api, asyncio.TaskGroup() as tasks:
        tables = Tables()
        kubelets = Kubelets(api, nodes, network, tables)
        for kind, note, label in (
            (PODS, kubelets.note, names.POOL_LABEL),
            (INSTANCES, tables.note, ""),
        ):
            reflector: Reflector[Object] = Reflector(
                api, kind, None, project=_whole, on_change=note, label_selector=label
            )
            tasks.create_task(reflector.run())
        tasks.create_task(kubelets.live())
        print("ready", flush=True)


def _whole(obj: Object) -> Object:
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


if __name__ == "__main__":
    uvloop.run(play(IPv4Network(sys.argv[1]), frozenset(sys.argv[2:])))
