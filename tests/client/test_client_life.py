"""Both clients from their making to their end: options, sharing, closing, cancellation."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import sagepool
from client_face import Face
from client_server import Reply, delta, error_reply, events, scripted
from operator_waiting import until
from router_wire import eventually


class TestLife:
    def test_a_closed_client_says_so(self, face: Face) -> None:
        with scripted() as server:
            client = face.create(server.url, model="m")
            face.close(client)
            face.close(client)
            assert client.is_closed
            with pytest.raises(sagepool.ConfigurationError, match="the client is closed"):
                face.chat(client, "hi")
        assert server.received == []

    def test_one_key_is_one_client(self, face: Face) -> None:
        first = face.get_instance("a", base_url="http://a", model="m")
        assert face.get_instance("a", base_url="http://a", model="m") is first
        assert face.get_instance("a") is first
        assert face.get_instance("b", base_url="http://a", model="m") is not first

    def test_other_arguments_for_the_same_key_are_refused(self, face: Face) -> None:
        face.get_instance("a", base_url="http://a")
        with pytest.raises(sagepool.ConfigurationError, match="'a' was made with other arguments"):
            face.get_instance("a", base_url="http://b")

    def test_a_closed_one_is_made_anew(self, face: Face) -> None:
        first = face.get_instance("a", base_url="http://a")
        face.close(first)
        second = face.get_instance("a", base_url="http://b")
        assert second is not first
        assert not second.is_closed

    def test_a_block_closes_it(self) -> None:
        with (
            scripted() as server,
            sagepool.UnifiedInferenceClient.create(server.url, model="m") as client,
        ):
            assert client.chat("hi") == "hello"
        assert client.is_closed

    async def test_an_awaited_block_too(self) -> None:
        with scripted() as server:
            async with sagepool.AsyncUnifiedInferenceClient.create(server.url, model="m") as client:
                assert await client.chat("hi") == "hello"
        assert client.is_closed

    def test_it_says_where_it_goes(self, face: Face) -> None:
        client = face.create("http://a", model="m", embedding_base_url="http://b", api_key="secret")
        assert client.explain() == (
            "llm: http://a/v1, model m: given\nembedding: http://b/v1: given"
        )
        assert "secret" not in repr(client)
        assert "http://a/v1" in repr(client)

    @pytest.mark.parametrize("key", ["secret\n", "secr\u00e9t", "secret\udcff"])
    def test_a_key_that_cannot_be_sent_is_refused_and_not_told(self, face: Face, key: str) -> None:
        with pytest.raises(sagepool.ConfigurationError) as told:
            face.kind.create("http://a", api_key=key)
        assert str(told.value) == "the API key must be printable ASCII: is it a line with its end?"

    @pytest.mark.parametrize(
        ("variable", "value"),
        [("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTP_PROXY", "nonsense://a")],
    )
    def test_a_proxy_that_cannot_be_used_is_said(
        self, face: Face, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(sagepool.ConfigurationError, match=r"a proxy .* cannot be used"):
            face.kind.create("http://a")
        assert not face.create("http://127.0.0.1").is_closed  # none is used for this machine

    def test_what_is_not_json_is_not_sent(self, face: Face) -> None:
        with scripted() as server:
            client = face.create(server.url, model="m")
            for bad in (object(), float("nan")):
                with pytest.raises(sagepool.ConfigurationError, match="cannot be written as JSON"):
                    face.chat(client, "hi", temperature=bad)
        assert server.received == []

    def test_threads_share_a_client(self) -> None:
        with scripted() as server, sagepool.UnifiedInferenceClient.create(server.url) as client:
            texts: list[str] = []
            threads = [
                threading.Thread(target=lambda: texts.append(client.chat("hi"))) for _ in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        assert texts == ["hello"] * 20

    @pytest.mark.parametrize(
        "reply", [Reply(is_silent=True), error_reply(503, retry_after="30")], ids=["call", "pause"]
    )
    def test_closing_ends_what_other_threads_wait_for(self, reply: Reply) -> None:
        with scripted(reply) as server, ThreadPoolExecutor(1) as threads:
            client = sagepool.UnifiedInferenceClient.create(server.url, model="m", timeout=60)
            call = threads.submit(client.chat, "hi")
            eventually(lambda: bool(server.received), "the call is sent")
            client.close()
            with pytest.raises(sagepool.ConfigurationError, match="the client is closed"):
                call.result(5)
        assert len(server.received) == 1

    @pytest.mark.parametrize(
        "reply", [Reply(is_silent=True), error_reply(503, retry_after="30")], ids=["call", "pause"]
    )
    async def test_closing_ends_what_other_tasks_wait_for(self, reply: Reply) -> None:
        with scripted(reply) as server:
            client = sagepool.AsyncUnifiedInferenceClient.create(server.url, model="m", timeout=60)
            call = asyncio.create_task(client.chat("hi"))
            await until(lambda: bool(server.received))
            await client.close()
            with pytest.raises(sagepool.ConfigurationError, match="the client is closed"):
                await asyncio.wait_for(call, 5)
        assert len(server.received) == 1


class TestCancellation:
    async def test_a_cancelled_call_frees_the_engine(self) -> None:
        with scripted(Reply(is_silent=True)) as server:
            async with sagepool.AsyncUnifiedInferenceClient.create(server.url, model="m") as client:
                call = asyncio.create_task(client.chat("hi"))
                await until(lambda: bool(server.received))
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await asyncio.to_thread(server.disconnected.wait, 5)

    async def test_a_cancelled_pause_ends_at_once(self) -> None:
        with scripted(error_reply(503, retry_after="30")) as server:
            async with sagepool.AsyncUnifiedInferenceClient.create(server.url, model="m") as client:
                call = asyncio.create_task(client.chat("hi"))
                await until(lambda: bool(server.received))
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
        assert len(server.received) == 1

    async def test_a_cancelled_reader_of_a_stream_frees_the_engine(self) -> None:
        with scripted(Reply(pieces=events(delta("he"), done=False), ends="open")) as server:
            async with sagepool.AsyncUnifiedInferenceClient.create(server.url, model="m") as client:
                stream = await client.chat("hi", stream=True)
                assert await anext(stream) == "he"
                reading = asyncio.create_task(anext(stream))
                await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert await asyncio.to_thread(server.disconnected.wait, 5)
