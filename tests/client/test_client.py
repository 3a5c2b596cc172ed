"""Both clients against a server on a real socket: answers, bad days, retries, streams, ends."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import sagepool
from client_face import Face
from client_server import CHAT_ANSWER, MODELS, Received, Reply, delta, error_reply, events, scripted
from operator_waiting import until

TEXT = {"role": "user", "content": "hi"}
EMBEDDED = Reply(body={"data": [{"index": 0, "embedding": [1.0, 2.0]}], "model": "tiny"})
STREAM = Reply(pieces=events(delta("he"), delta("llo", finish_reason="stop")))


class TestAnswers:
    def test_a_chat_is_a_text(self, face: Face) -> None:
        with scripted() as server:
            assert face.chat(face.create(server.url, model="m"), [TEXT]) == "hello"
        (got,) = server.received
        assert (got.path, got.body) == ("/v1/chat/completions", {"model": "m", "messages": [TEXT]})

    def test_a_completion_is_a_text(self, face: Face) -> None:
        with scripted(Reply(body={"choices": [{"text": "b"}]})) as server:
            assert face.generate(face.create(server.url, model="m"), "a", max_tokens=1) == "b"
        (got,) = server.received
        assert (got.path, got.body) == (
            "/v1/completions",
            {"model": "m", "prompt": "a", "max_tokens": 1},
        )

    def test_embeddings_are_vectors(self, face: Face) -> None:
        with scripted(EMBEDDED) as server:
            client = face.create(server.url, embedding_model="e")
            assert face.embed(client, "a") == [[1.0, 2.0]]
        (got,) = server.received
        assert (got.path, got.body) == ("/v1/embeddings", {"model": "e", "input": ["a"]})

    def test_a_result_tells_the_rest(self, face: Face) -> None:
        headers = {"x-request-id": "r-1", "x-sagepool-instance": "i", "x-sagepool-policy": "hybrid"}
        with scripted(Reply(headers=headers)) as server:
            result = face.chat(face.create(server.url, model="m"), "hi", return_result=True)
        assert isinstance(result, sagepool.Result)
        assert (result.request_id, result.request_type, result.model) == ("r-1", "llm_chat", "tiny")
        assert result.usage == sagepool.Usage(3, 1, 4)
        assert result.latency_ms > 0
        assert (result.metadata["instance"], result.metadata["policy"]) == ("i", "hybrid")
        assert result.metadata["retries"] == 0

    def test_a_server_that_gives_no_request_id_gets_ours(self, face: Face) -> None:
        with scripted(EMBEDDED) as server:
            client = face.create(server.url, embedding_model="e")
            result = face.embed(client, ["a"], return_result=True)
        assert result.request_type == "embedding"
        assert result.request_id == server.received[0].headers["x-request-id"]

    def test_a_key_is_sent_as_bearer_token(self, face: Face) -> None:
        with scripted() as server:
            face.chat(face.create(server.url, api_key="secret", model="m"), "hi")
            face.chat(face.create(server.url, model="m"), "hi")
        with_key, without = server.received
        assert with_key.headers["authorization"] == "Bearer secret"
        assert "authorization" not in without.headers

    def test_a_model_that_calls_tools_is_not_taken_for_silent(self, face: Face) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
        with scripted(Reply(body=body)) as server:
            client = face.create(server.url, model="m")
            with pytest.raises(sagepool.UnexpectedAnswerError, match="return_result=True"):
                face.chat(client, "hi", tools=[])
            result = face.chat(client, "hi", tools=[], return_result=True)
        assert result.metadata["tool_calls"] == [call]

    def test_embeddings_may_have_a_server_of_their_own(self, face: Face) -> None:
        with scripted() as chats, scripted(EMBEDDED) as embeds:
            client = face.create(
                chats.url,
                api_key="k",
                model="m",
                embedding_base_url=embeds.url,
                embedding_model="e",
            )
            face.chat(client, "hi")
            face.embed(client, "hi")
        assert [got.path for got in chats.received] == ["/v1/chat/completions"]
        (got,) = embeds.received
        assert got.path == "/v1/embeddings"
        assert "authorization" not in got.headers  # another server's key is not its business


class TestModels:
    def test_without_a_name_the_first_model_of_the_kind_is_used(self, face: Face) -> None:
        models = Reply(
            body={
                "data": [
                    {"id": "e", "role": "embedding"},
                    {"id": "asleep", "role": "llm", "ready": False},
                    {"id": "m", "role": "llm", "ready": True},
                ]
            }
        )
        with scripted(Reply(), Reply(), EMBEDDED, models=models) as server:
            client = face.create(server.url)
            face.chat(client, "hi")
            face.chat(client, "hi")
            face.embed(client, "hi")
        assert [got.body["model"] for got in server.received] == ["m", "m", "e"]
        assert server.listings == 2  # once a kind

    def test_a_server_without_models_for_the_kind_is_said(self, face: Face) -> None:
        models = Reply(body={"data": [{"id": "e", "role": "embedding"}]})
        with scripted(models=models) as server:
            client = face.create(server.url)
            with pytest.raises(sagepool.ConfigurationError, match="lists no model for llm"):
                face.chat(client, "hi")
        assert server.received == []

    def test_an_unknown_model_is_told_with_the_known(self, face: Face) -> None:
        with scripted(error_reply(404, "no such model")) as server:
            client = face.create(server.url, model="gone")
            with pytest.raises(sagepool.NotFoundError) as told:
                face.chat(client, "hi")
        assert told.value.models == ("tiny",)
        assert str(told.value) == "no such model; models: tiny"

    def test_a_server_that_lists_them_itself_is_not_repeated(self, face: Face) -> None:
        with (
            scripted(error_reply(404, "no such model; models: tiny")) as server,
            pytest.raises(sagepool.NotFoundError) as told,
        ):
            face.chat(face.create(server.url, model="gone"), "hi", stream=True)
        assert str(told.value) == "no such model; models: tiny"

    def test_that_it_cannot_list_them_changes_nothing(self, face: Face) -> None:
        with (
            scripted(error_reply(404, "lost"), models=error_reply(500)) as server,
            pytest.raises(sagepool.NotFoundError, match="lost") as told,
        ):
            face.chat(face.create(server.url, model="gone"), "hi")
        assert told.value.models == ()

    def test_a_model_that_has_gone_is_looked_for_anew(self, face: Face) -> None:
        with scripted(Reply(), error_reply(404), Reply()) as server:
            client = face.create(server.url)
            face.chat(client, "hi")
            server.models = Reply(body={"data": [{"id": "new"}]})
            with pytest.raises(sagepool.NotFoundError):
                face.chat(client, "hi")
            face.chat(client, "hi")
        assert [got.body["model"] for got in server.received] == ["tiny", "tiny", "new"]


class TestRetries:
    @pytest.mark.parametrize("status", [429, 502, 503, 529])
    def test_what_was_not_taken_is_sent_again(self, face: Face, status: int) -> None:
        again = error_reply(status, retry_after_ms="1")
        with scripted(again, again, Reply()) as server:
            client = face.create(server.url, model="m", max_retries=2)
            result = face.chat(client, "hi", return_result=True)
        assert len(server.received) == 3
        assert result.metadata["retries"] == 2
        # one call, one id, however often it is sent
        assert len({got.headers["x-request-id"] for got in server.received}) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 408, 422, 500, 504])
    def test_what_may_have_been_done_is_not(self, face: Face, status: int) -> None:
        with (
            scripted(error_reply(status, retry_after_ms="1")) as server,
            pytest.raises(sagepool.SagepoolError),
        ):
            face.chat(face.create(server.url, model="m", max_retries=2), "hi")
        assert len(server.received) == 1

    def test_only_so_many_times(self, face: Face) -> None:
        with (
            scripted(error_reply(503, retry_after_ms="1")) as server,
            pytest.raises(sagepool.UnavailableError),
        ):
            face.embed(face.create(server.url, embedding_model="e", max_retries=3), "hi")
        assert len(server.received) == 4

    def test_the_servers_word_wins(self, face: Face) -> None:
        no = error_reply(503, retry_after_ms="1", x_should_retry="false")
        yes = error_reply(500, retry_after_ms="1", x_should_retry="true")
        with scripted(yes, no, Reply()) as server, pytest.raises(sagepool.UnavailableError):
            face.chat(face.create(server.url, model="m", max_retries=5), "hi")
        assert len(server.received) == 2

    def test_a_pause_is_kept(self, face: Face) -> None:
        with scripted(error_reply(429, retry_after_ms="200"), Reply()) as server:
            client = face.create(server.url, model="m", max_retries=1)
            began = time.monotonic()
            face.chat(client, "hi")
        assert time.monotonic() - began >= 0.2

    def test_a_pause_beyond_the_calls_time_is_told_at_once(self, face: Face) -> None:
        with scripted(error_reply(429, "later", retry_after="60")) as server:
            client = face.create(server.url, model="m", max_retries=9)
            with pytest.raises(sagepool.RateLimitError, match="later") as told:
                face.chat(client, "hi", timeout=30)
        assert told.value.retry_after == 60
        assert len(server.received) == 1

    def test_a_connection_that_ends_before_the_answer_is_made_anew(self, face: Face) -> None:
        with scripted(Reply(is_gone=True), Reply()) as server:
            assert face.chat(face.create(server.url, model="m", max_retries=1), "hi") == "hello"
        assert len(server.received) == 2

    def test_an_answer_that_breaks_off_is_not_asked_for_again(self, face: Face) -> None:
        with (
            scripted(Reply(pieces=[b'{"choices"', b": "], ends="broken")) as server,
            pytest.raises(sagepool.APIConnectionError, match="in the middle") as told,
        ):
            face.chat(face.create(server.url, model="m", max_retries=5), "hi")
        assert told.value.is_begun
        assert len(server.received) == 1

    def test_a_stream_is_asked_for_again_before_its_first_byte(self, face: Face) -> None:
        with scripted(error_reply(503, retry_after_ms="1"), STREAM) as server:
            client = face.create(server.url, model="m", max_retries=1)
            assert face.read(face.chat(client, "hi", stream=True)) == ["he", "llo"]
        assert len(server.received) == 2

    def test_and_has_its_whole_time_between_two_parts(self, face: Face) -> None:
        pause = threading.Event()
        late = Reply(pieces=STREAM.pieces, between=lambda: pause.wait(1.2))
        with scripted(error_reply(503, retry_after_ms="1200"), late) as server:
            client = face.create(server.url, model="m", max_retries=1)
            stream = face.chat(client, "hi", stream=True, timeout=2)
            assert face.read(stream) == ["he", "llo"]

    def test_and_never_after_it(self, face: Face) -> None:
        with scripted(Reply(pieces=events(delta("he")), ends="broken"), STREAM) as server:
            stream = face.chat(face.create(server.url, model="m", max_retries=5), "hi", stream=True)
            with pytest.raises(sagepool.StreamBrokenError):
                face.read(stream)
        assert len(server.received) == 1


class TestLimits:
    def test_nobody_there_is_told_with_the_address(self, face: Face) -> None:
        with scripted() as server:
            url = server.url
        client = face.create(url, model="m")
        with pytest.raises(sagepool.APIConnectionError, match=f"cannot reach {url}") as told:
            face.chat(client, "hi")
        assert not isinstance(told.value, sagepool.APITimeoutError)

    def test_a_name_that_does_not_exist_is_told(self, face: Face) -> None:
        client = face.create("http://no-such-host.invalid", model="m")
        with pytest.raises(sagepool.APIConnectionError, match=r"cannot reach http://no-such-host"):
            face.chat(client, "hi")

    def test_silence_has_a_limit(self, face: Face) -> None:
        with scripted(Reply(is_silent=True)) as server:
            client = face.create(server.url, model="m", max_retries=3)
            with pytest.raises(sagepool.APITimeoutError, match=r"did not answer within 0.5 s"):
                face.chat(client, "hi", timeout=0.5)
            assert server.disconnected.wait(5)
        assert len(server.received) == 1

    def test_a_server_that_trickles_has_the_same(self, face: Face) -> None:
        pause = threading.Event()
        reply = Reply(pieces=[b" "] * 100, between=lambda: pause.wait(0.05))
        with scripted(reply) as server:
            client = face.create(server.url, model="m")
            with pytest.raises(sagepool.APITimeoutError, match=r"within 0.3 s"):
                face.chat(client, "hi", timeout=0.3)
            assert server.disconnected.wait(10)

    def test_a_stream_that_falls_silent_has_one(self, face: Face) -> None:
        with scripted(Reply(pieces=events(delta("he"), done=False), ends="open")) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True, timeout=1)
            assert face.next(stream) == "he"
            with pytest.raises(sagepool.APITimeoutError):
                face.read(stream)
            assert server.disconnected.wait(5)

    def test_a_long_stream_has_none_while_it_goes_on(self, face: Face) -> None:
        pause = threading.Event()
        pieces = events(*[delta(str(n)) for n in range(10)], delta(finish_reason="stop"))
        with scripted(Reply(pieces=pieces, between=lambda: pause.wait(0.1))) as server:
            client = face.create(server.url, model="m")
            stream = face.chat(client, "hi", stream=True, timeout=0.9)
            assert "".join(face.read(stream)) == "0123456789"
            assert stream.result.latency_ms > 900

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"timeout": 0}, "timeout"),
            ({"connect_timeout": -1}, "connect_timeout"),
            ({"max_retries": -1}, "max_retries"),
            ({"max_retries": 1.5}, "max_retries"),
            ({"retries": 3}, "retries is no option of a client; there are timeout"),
        ],
    )
    def test_bad_options_are_refused(self, face: Face, options: Any, words: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=words):
            face.kind.create("http://a", **options)


class TestStreams:
    def test_a_stream_gives_text_and_then_its_result(self, face: Face) -> None:
        usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        pieces = events(delta("he"), delta("llo", finish_reason="stop"), usage)
        with scripted(Reply(pieces=pieces, headers={"x-sagepool-instance": "i"})) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True)
            assert face.next(stream) == "he"
            assert stream.text == "he"
            with pytest.raises(sagepool.SagepoolError, match="read it to its end first"):
                _ = stream.result
            assert face.read(stream) == ["llo"]
        result = stream.result
        assert (result.content, result.model, result.usage) == (
            "hello",
            "tiny",
            sagepool.Usage(3, 2, 5),
        )
        assert result.metadata["instance"] == "i"
        assert 0 < result.metadata["ttft_ms"] <= result.latency_ms
        assert server.received[0].body["stream"] is True

    def test_text_comes_before_the_answer_is_whole(self, face: Face) -> None:
        go_on = threading.Event()
        reply = Reply(pieces=STREAM.pieces, between=lambda: go_on.wait(10))
        with scripted(reply) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True)
            assert face.next(stream) == "he"
            go_on.set()
            assert face.read(stream) == ["llo"]

    def test_a_completion_streams_too(self, face: Face) -> None:
        pieces = events({"choices": [{"index": 0, "text": "ab", "finish_reason": "stop"}]})
        with scripted(Reply(pieces=pieces)) as server:
            stream = face.generate(face.create(server.url, model="m"), "a", stream=True)
            assert face.read(stream) == ["ab"]

    def test_a_broken_stream_keeps_what_had_come(self, face: Face) -> None:
        reply = Reply(
            pieces=events(delta("he"), done=False), ends="broken", headers={"x-request-id": "r-1"}
        )
        with scripted(reply) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True)
            with pytest.raises(sagepool.StreamBrokenError) as told:
                face.read(stream)
        assert (told.value.text, told.value.request_id) == ("he", "r-1")

    def test_an_error_in_a_stream_is_told(self, face: Face) -> None:
        error = {"error": {"message": "engine died", "type": "t", "code": "engine_failed"}}
        with scripted(Reply(pieces=events(delta("he"), error, done=False))) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True)
            with pytest.raises(sagepool.StreamBrokenError, match="engine died") as told:
                face.read(stream)
        assert (told.value.text, told.value.code) == ("he", "engine_failed")

    def test_leaving_early_frees_the_engine(self, face: Face) -> None:
        with scripted(Reply(pieces=events(delta("he"), done=False), ends="open")) as server:
            stream = face.chat(face.create(server.url, model="m"), "hi", stream=True)
            assert face.next(stream) == "he"
            face.close(stream)
            assert server.disconnected.wait(5)
            with pytest.raises((StopIteration, StopAsyncIteration)):
                face.next(stream)

    def test_a_stream_that_nobody_begins_to_read_can_be_closed(self, face: Face) -> None:
        with scripted(Reply(pieces=events(delta("he"), done=False), ends="open")) as server:
            face.close(face.chat(face.create(server.url, model="m"), "hi", stream=True))
            assert server.disconnected.wait(5)

    def test_connections_are_used_again(self, face: Face) -> None:
        threads = []

        def reply(_: Received) -> Reply:
            threads.append(threading.get_ident())
            return STREAM

        with scripted(reply) as server:
            client = face.create(server.url, model="m")
            for _ in range(3):
                face.read(face.chat(client, "hi", stream=True))
        assert len(set(threads)) == 1  # the server has a thread a connection


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

    def test_a_key_with_the_end_of_its_line_is_refused(self, face: Face) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="is it a line with its end") as told:
            face.kind.create("http://a", api_key="secret\n")
        assert "secret" not in str(told.value)

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
            while not server.received:
                time.sleep(0.01)
            client.close()
            with pytest.raises(sagepool.ConfigurationError, match="the client is closed"):
                call.result(5)
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


def test_the_scripts_answers_are_openais() -> None:
    assert CHAT_ANSWER["choices"]
    assert MODELS["data"]
