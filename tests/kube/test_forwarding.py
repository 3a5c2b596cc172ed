"""A Service as a port of this machine: what is carried, what breaks, and what is said then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio.client.configuration import Configuration

from kube_pods import Pods, echo, fails
from kube_world import until
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import Forbidden, KubeError, NotFound, Unavailable
from sagepool_kube.forwarding import forward_service


@asynccontextmanager
async def forwarded(pods: Pods, failures: list[KubeError]) -> AsyncIterator[int]:
    """The port behind which the pods are."""
    async with pods.running():
        configuration = Configuration(host=pods.url, connection_pool_maxsize=0)
        async with (
            KubeClient(configuration) as client,
            forward_service(client, "ns", "rag-router", on_failure=failures.append) as port,
        ):
            pods.forwards.clear()  # the first is opened to see that it can be
            yield port


async def exchange(port: int, sent: bytes) -> bytes:
    """What a new connection answers with; empty when it ends without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            return await reader.readexactly(len(sent))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.close()


async def test_bytes_are_carried_both_ways_whole_and_in_their_order() -> None:
    pods, failures = Pods(), list[KubeError]()
    async with forwarded(pods, failures) as port:
        texts = [bytes((number,)) * 300_000 for number in range(5)]
        answers = await asyncio.gather(*(exchange(port, text) for text in texts))
    assert answers == texts
    assert pods.forwards == [("a", "8000")] * 5
    assert failures == []


async def test_a_port_that_is_a_number_is_taken_as_it_is() -> None:
    pods = Pods(target=8123)
    async with forwarded(pods, []) as port:
        assert await exchange(port, b"hello") == b"hello"
    assert pods.forwards == [("a", "8123")]


async def test_the_next_connection_finds_another_pod() -> None:
    pods = Pods()
    async with forwarded(pods, []) as port:
        assert await exchange(port, b"hello") == b"hello"
        pods.serving = {"b": echo}
        assert await exchange(port, b"again") == b"again"
    assert [name for name, _ in pods.forwards] == ["a", "b"]


async def test_a_connection_ends_with_its_pod() -> None:
    pods = Pods()
    async with forwarded(pods, []) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        for way in set(pods.open):
            await way.close()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_a_caller_that_leaves_frees_the_way() -> None:
    pods = Pods()
    async with forwarded(pods, []) as port:
        assert await exchange(port, b"hello") == b"hello"
        await until(lambda: not pods.open)


async def test_leaving_ends_what_is_still_carried() -> None:
    pods = Pods()
    async with forwarded(pods, []) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_what_a_kubelet_says_is_told_and_the_connection_ends() -> None:
    pods, failures = Pods({"a": fails("connection\n refused")}), list[KubeError]()
    async with forwarded(pods, failures) as port:
        assert await exchange(port, b"hello") == b""
    assert [str(error) for error in failures] == ["the pod cannot be reached: connection refused"]


async def test_a_pod_that_is_gone_is_told() -> None:
    pods, failures = Pods(), list[KubeError]()
    async with forwarded(pods, failures) as port:
        pods.serving = {}
        assert await exchange(port, b"hello") == b""
    assert [str(error) for error in failures] == [
        "none of the 0 pods of service ns/rag-router is ready"
    ]


@pytest.mark.parametrize(
    ("pods", "error", "says"),
    [
        (Pods(ready="False"), Unavailable, "none of the 1 pods of service ns/rag-router is ready"),
        (Pods(refuses=403), Forbidden, "it takes the verbs get and create on pods/portforward"),
        (Pods(refuses=404), NotFound, "forward a port to pod a: "),
        (Pods(refuses=500), Unavailable, "forward a port to pod a: "),
        (Pods(target="none"), NotFound, "pod a has no port none"),
    ],
)
async def test_what_stands_against_it_is_said_at_once(
    pods: Pods, error: type[KubeError], says: str
) -> None:
    with pytest.raises(error, match=says):
        async with forwarded(pods, []):
            raise AssertionError("it was opened")
