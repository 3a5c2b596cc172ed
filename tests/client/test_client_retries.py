"""Both clients on bad days: what is sent again, and how long is waited."""

import threading
import time
from typing import Any

import pytest

import sagepool
from client_face import Face
from client_server import Reply, delta, error_reply, events, scripted

STREAM = Reply(pieces=events(delta("he"), delta("llo", finish_reason="stop")))


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
