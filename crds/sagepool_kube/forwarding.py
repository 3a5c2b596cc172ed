"""A Service of the cluster as a port of this machine, through the API server.

Each connection that comes in gets a way of its own to a ready pod: a WebSocket of the subresource
`pods/portforward`. When a pod or the API server goes away, the connections through it end, and the
next one finds another way; there is nothing to be kept alive between them.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
from kubernetes.aio.stream.ws_client import WsApiClient

from sagepool_kube.api import PODS, SERVICES, Object
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import Forbidden, KubeError, NotFound, Unavailable, error_of_status

_OPEN_S: Final = 15.0
"""For finding a pod and opening a way to it."""
_HEARTBEAT_S: Final = 20.0
"""Between two pings; a way whose other end is silent for half as long after one is broken."""
_CHUNK: Final = 2**16
_DATA, _ERROR = 0, 1
"""Channels of v4.channel.k8s.io for the first port; the first message of each names the port."""
_GREETING: Final = 2


@asynccontextmanager
async def forward_service(
    client: KubeClient,
    namespace: str,
    service: str,
    *,
    on_failure: Callable[[KubeError], None],
    rng: random.Random | None = None,
) -> AsyncGenerator[int]:
    """The port of 127.0.0.1 behind which the Service's first port is, while inside.

    Args:
        client: the cluster.
        namespace: of the Service.
        service: its name.
        on_failure: told why a connection could not be carried, or broke.
        rng: chooses among ready pods.

    Raises:
        NotFound: there is no such Service.
        KubeError: no way can be opened now; the message says why.
    """
    websockets = WsApiClient(client.configuration, heartbeat=_HEARTBEAT_S)  # type: ignore[no-untyped-call]  # not typed
    async with websockets as api:
        ways = _Ways(client, api, namespace, service, rng or random.Random())
        async with ways.open():
            pass  # what stands against it is said now, not to the first connection
        carried: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_carry(ways, reader, writer, on_failure))
            carried.add(task)
            task.add_done_callback(carried.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()
            for task in carried:
                task.cancel()
            await asyncio.gather(*carried, return_exceptions=True)


class _Ways:
    """Opens ways to the pods of a Service."""

    def __init__(
        self,
        client: KubeClient,
        api: WsApiClient,
        namespace: str,
        service: str,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._api = api
        self._namespace = namespace
        self._service = service
        self._rng = rng

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
        """A way to a ready pod. Raises KubeError."""
        place = f"{self._namespace}/{self._service}"
        try:
            async with asyncio.timeout(_OPEN_S):
                pod, port = await self._choose()
                way = await self._connect(f"forward a port to pod {pod}", pod, port)
        except TimeoutError:
            raise Unavailable(
                f"forward a port to service {place}: no way was open after {_OPEN_S:g} s"
            ) from None
        try:
            yield way
        finally:
            await way.close()

    async def _choose(self) -> tuple[str, int]:
        """The name of a ready pod and the port that the Service's first port means there."""
        spec = (await self._client.get(SERVICES, self._namespace, self._service))["spec"]
        labels = ",".join(f"{key}={value}" for key, value in spec["selector"].items())
        pods = await self._client.list(PODS, self._namespace, label_selector=labels)
        ready = [pod for pod in pods.items if _is_ready(pod)]
        if not ready:
            raise Unavailable(
                f"none of the {len(pods.items)} pods of service {self._namespace}/{self._service} "
                "is ready"
            )
        pod = self._rng.choice(ready)
        return pod["metadata"]["name"], _port_of(pod, spec["ports"][0])

    async def _connect(self, call: str, pod: str, port: int) -> aiohttp.ClientWebSocketResponse:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/portforward"
        try:
            request = await self._api.param_serialize(
                "GET", path, query_params=[("ports", str(port))], auth_settings=["BearerToken"]
            )
            answer = await self._api.call_api(  # type: ignore[no-untyped-call]  # not typed
                *request, _preload_content=False
            )
            way: aiohttp.ClientWebSocketResponse = await answer.response
        except aiohttp.WSServerHandshakeError as error:
            refused = error_of_status(call, error.status, "", error.message)
            if isinstance(refused, Forbidden):  # the server's words are lost in the library
                raise Forbidden(
                    f"{call}: the cluster does not let you: it takes the verbs get and create on "
                    f"pods/portforward ({error.status})"
                ) from error
            raise refused from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{call}: {error or type(error).__name__}") from error
        return way


def _is_ready(pod: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _port_of(pod: Object, port: Object) -> int:
    """What a port of a Service means in a pod."""
    wanted = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted
    for container in pod["spec"]["containers"]:
        for there in container.get("ports") or ():
            if there.get("name") == wanted:
                return int(there["containerPort"])
    raise NotFound(f"pod {pod['metadata']['name']} has no port {wanted}")


async def _carry(
    ways: _Ways,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    on_failure: Callable[[KubeError], None],
) -> None:
    """One connection, until either end closes it."""
    try:
        async with ways.open() as way:
            up = asyncio.create_task(_send(reader, way))
            down = asyncio.create_task(_receive(way, writer))
            try:
                done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
    except KubeError as error:
        on_failure(error)
    finally:
        writer.close()


async def _send(reader: asyncio.StreamReader, way: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(OSError, aiohttp.ClientError):  # either end has gone: the other task says so
        while data := await reader.read(_CHUNK):
            await way.send_bytes(bytes((_DATA,)) + data)


async def _receive(way: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    greeted: set[int] = set()
    async for message in way:
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Unavailable(f"the way to the pod broke: {message.data}")
        channel, data = message.data[0], message.data[1:]
        if channel not in greeted:
            greeted.add(channel)
            data = data[_GREETING:]
        if channel == _ERROR and data:
            raise Unavailable(f"the pod cannot be reached: {_text(data)}")
        if data:
            writer.write(data)
            with suppress(OSError):  # the caller has left, which ends the other task
                await writer.drain()


def _text(data: Any) -> str:
    return " ".join(bytes(data).decode(errors="replace").split())
