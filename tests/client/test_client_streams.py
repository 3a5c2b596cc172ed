"""Both clients and answers that come piece by piece."""

import threading

import pytest

import sagepool
from client_face import Face
from client_server import Received, Reply, delta, events, scripted

STREAM = Reply(pieces=events(delta("he"), delta("llo", finish_reason="stop")))


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
