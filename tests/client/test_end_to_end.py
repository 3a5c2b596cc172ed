"""Both clients against real processes: a router, its engines, and what goes wrong with them."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sagepool
from client_face import Face
from client_pool import CHAT, EMBEDDING, Pool, running_pool
from router_wire import eventually

KEYS = """
alice: {{key: {alice}, models: [{chat}]}}
slow: {{key: {slow}, requestsPerMinute: 1}}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool that is well."""
    with running_pool(tmp_path_factory.mktemp("pool"), chats=2) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool that lets in who has a key."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.yaml"
    keys.write_text(KEYS.format(alice="sk-alice" * 4, slow="sk-slow" * 4, chat=CHAT))
    flags = [f"--api-keys={keys}"]
    with running_pool(folder, router_flags=flags) as pool:
        yield pool


class TestAPoolThatIsWell:
    def test_a_chat(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        result = face.chat(client, "Hello", max_tokens=5, return_result=True)
        assert len(result.content.split()) == 5
        assert (result.model, result.usage.completion_tokens) == (CHAT, 5)
        assert result.metadata["finish_reason"] == "length"
        assert result.metadata["instance"].startswith("llm-")
        assert result.metadata["policy"].startswith("hybrid")

    def test_temperature_zero_answers_alike(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        texts = {face.chat(client, "Hello", temperature=0, max_tokens=9) for _ in range(4)}
        assert len(texts) == 1

    def test_a_stream_says_what_the_whole_answer_says(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        whole = face.chat(client, "Hello", max_tokens=9, return_result=True)
        stream = face.chat(client, "Hello", max_tokens=9, stream=True)
        pieces = face.read(stream)
        assert len(pieces) == 9
        assert "".join(pieces) == stream.result.content == whole.content
        assert stream.result.usage == whole.usage

    def test_a_completion(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        whole = face.generate(client, "Once", max_tokens=4)
        assert len(whole.split()) == 4
        assert "".join(face.read(face.generate(client, "Once", max_tokens=4, stream=True))) == whole

    def test_several_choices(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        result = face.chat(client, "Hello", n=3, max_tokens=2, return_result=True)
        assert [choice["index"] for choice in result.metadata["choices"]] == [0, 1, 2]

    def test_embeddings(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        result = face.embed(client, ["a", "b", "a"], return_result=True)
        first, second, third = result.content
        assert first == third != second
        assert result.model == EMBEDDING
        assert face.embed(client, "a", encoding_format="base64")[0] == pytest.approx(
            first, abs=1e-6
        )

    def test_more_texts_than_a_batch(self, face: Face, pool: Pool) -> None:
        client = face.create(pool.url)
        texts = [f"text number {n}" for n in range(100)]
        vectors = face.embed(client, texts)
        assert vectors[57] == face.embed(client, texts[57])[0]
        assert len(vectors) == 100

    @pytest.mark.parametrize(
        ("options", "kind", "param", "code"),
        [
            ({"temperature": 3}, sagepool.BadRequestError, "temperature", "invalid_temperature"),
            ({"top_p": 2}, sagepool.BadRequestError, "top_p", "invalid_top_p"),
            ({"max_tokens": -1}, sagepool.BadRequestError, "max_tokens", "invalid_max_tokens"),
            ({"model": "nope"}, sagepool.NotFoundError, "model", "model_not_found"),
            ({"deadline_ms": -5}, sagepool.BadRequestError, None, "invalid_deadline"),
            ({"priority": "urgent"}, sagepool.BadRequestError, None, "invalid_priority"),
        ],
    )
    def test_wrong_requests_are_told_by_field_and_rule(
        self, face: Face, pool: Pool, options: Any, kind: Any, param: str | None, code: str
    ) -> None:
        with pytest.raises(kind) as told:
            face.chat(face.create(pool.url), "Hello", **options)
        assert told.value.code == code
        assert param is None or told.value.param == param

    def test_blank_texts_are_refused(self, face: Face, pool: Pool) -> None:
        with pytest.raises(sagepool.BadRequestError) as told:
            face.embed(face.create(pool.url), ["a", "  "])
        assert told.value.code == "blank_embedding_text"

    def test_the_role_of_a_model_is_minded(self, face: Face, pool: Pool) -> None:
        with pytest.raises(sagepool.BadRequestError):
            face.chat(face.create(pool.url), "Hello", model=EMBEDDING)

    async def test_many_at_once(self, pool: Pool) -> None:
        async with sagepool.AsyncUnifiedInferenceClient.create(pool.url) as client:
            chats = [client.chat(f"{n}", max_tokens=3) for n in range(100)]
            texts = [client.embed(f"{n}") for n in range(100)]
            answers = await asyncio.gather(*chats)
            vectors = await asyncio.gather(*texts)
        assert {len(answer.split()) for answer in answers} == {3}
        assert len({tuple(found[0]) for found in vectors}) == 100

    def test_threads_at_once(self, pool: Pool) -> None:
        done: list[int] = []
        with sagepool.UnifiedInferenceClient.create(pool.url) as client:

            def work(number: int) -> None:
                done.append(len(client.chat(f"{number}", max_tokens=2).split()))

            threads = [threading.Thread(target=work, args=(n,)) for n in range(30)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert done == [2] * 30

    def test_environment_to_answer(
        self, face: Face, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [n for n in os.environ if n.startswith("SAGE")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SAGE_UNIFIED_BASE_URL", pool.url)
        client = face.create_auto()
        assert face.chat(client, "Hello", max_tokens=1)
        assert face.embed(client, "a")
        assert f"SAGE_UNIFIED_BASE_URL  {pool.url}/v1  -> llm and embedding" in client.explain()


class TestThingsThatGoWrong:
    def test_an_engine_that_dies_is_not_noticed(self, face: Face, tmp_path: Path) -> None:
        with running_pool(tmp_path, chats=2) as pool:
            client = face.create(pool.url)
            assert face.chat(client, "1", max_tokens=1)
            pool.chats[0].break_down()
            for number in range(20):
                assert face.chat(client, f"{number}", max_tokens=1)
            face.close(client)

    def test_an_engine_that_dies_while_it_streams_is(self, face: Face, tmp_path: Path) -> None:
        with running_pool(tmp_path, chat_flags=["--itl-ms=20"]) as pool:
            client = face.create(pool.url, max_retries=3)
            stream = face.chat(client, "Hello", max_tokens=500, stream=True)
            first = face.next(stream)
            pool.chats[0].break_down()
            with pytest.raises(sagepool.StreamBrokenError) as told:
                face.read(stream)
            face.close(client)
        assert told.value.text.startswith(first)
        assert told.value.request_id

    def test_no_engine_at_all_is_unavailable(self, face: Face, tmp_path: Path) -> None:
        with running_pool(tmp_path) as pool:
            client = face.create(pool.url, model=CHAT)
            pool.chats[0].break_down()

            def fails() -> bool:
                try:
                    face.chat(client, "Hello", timeout=1)
                except sagepool.UnavailableError as error:
                    return error.status == 503 and error.retry_after is not None
                except sagepool.SagepoolError:
                    return False
                return False

            eventually(fails, "the router says that nobody is there", 30)
            face.close(client)

    def test_a_full_pool_says_when_to_come_back(self, tmp_path: Path) -> None:
        spec = {"scheduling": {"queue": {"maxRequests": 0}}}
        with (
            running_pool(
                tmp_path, spec=spec, max_concurrency=1, chat_flags=["--itl-ms=50"]
            ) as pool,
            sagepool.UnifiedInferenceClient.create(pool.url, max_retries=0) as client,
        ):
            with client.chat("long", max_tokens=500, stream=True) as stream:
                next(stream)
                with pytest.raises(sagepool.RateLimitError) as told:
                    client.chat("Hello")
            assert told.value.retry_after is not None
            # leaving the stream has freed the only place
            eventually(lambda: bool(self.answered(client)), "the place is free")

    @staticmethod
    def answered(client: sagepool.UnifiedInferenceClient) -> str:
        try:
            return client.chat("Hello", max_tokens=1)
        except sagepool.RateLimitError:
            return ""

    def test_a_full_pool_is_waited_for(self, tmp_path: Path) -> None:
        spec = {"scheduling": {"queue": {"maxRequests": 0}}}
        with (
            running_pool(
                tmp_path, spec=spec, max_concurrency=1, chat_flags=["--itl-ms=20"]
            ) as pool,
            sagepool.UnifiedInferenceClient.create(pool.url, max_retries=50) as client,
        ):
            stream = client.chat("long", max_tokens=100, stream=True)
            next(stream)
            waited: list[Any] = []
            thread = threading.Thread(
                target=lambda: waited.append(client.chat("Hello", max_tokens=1, return_result=True))
            )
            thread.start()
            list(stream)
            thread.join(20)
        (result,) = waited
        assert result.metadata["retries"] >= 1

    def test_a_deadline_is_kept(self, face: Face, tmp_path: Path) -> None:
        with running_pool(tmp_path, chat_flags=["--ttft-ms=3000"]) as pool:
            client = face.create(pool.url, max_retries=3)
            with pytest.raises(sagepool.APITimeoutError) as told:
                face.chat(client, "Hello", deadline_ms=200)
            face.close(client)
        assert (told.value.status, told.value.code) == (504, "deadline_exceeded")

    def test_a_router_that_comes_back_is_found_again(self, face: Face, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        client = face.create(f"http://127.0.0.1:{port}")
        for folder in ("first", "second"):
            (tmp_path / folder).mkdir()
            with running_pool(tmp_path / folder, port=port):
                assert face.chat(client, "Hello", max_tokens=1)
            with pytest.raises(sagepool.APIConnectionError, match="cannot reach"):
                face.chat(client, "Hello")

    def test_a_router_that_is_asked_to_stop_finishes_its_streams(
        self, face: Face, tmp_path: Path
    ) -> None:
        with running_pool(tmp_path, chat_flags=["--itl-ms=20"]) as pool:
            client = face.create(pool.url)
            stream = face.chat(client, "Hello", max_tokens=40, stream=True)
            assert face.next(stream)
            pool.router.signal(signal.SIGTERM)
            assert len(face.read(stream)) == 39
            assert stream.result.metadata["finish_reason"] == "length"


class TestKeys:
    @pytest.mark.parametrize("key", [None, "wrong"])
    def test_without_the_right_key_nobody_gets_in(
        self, face: Face, guarded: Pool, key: str | None
    ) -> None:
        client = face.create(guarded.url, api_key=key, model=CHAT)
        with pytest.raises(sagepool.AuthenticationError) as told:
            face.chat(client, "Hello")
        assert told.value.status == 401

    def test_with_it_one_does(self, face: Face, guarded: Pool) -> None:
        client = face.create(guarded.url, api_key="sk-alice" * 4)
        assert face.chat(client, "Hello", max_tokens=1)

    def test_a_model_that_the_key_may_not_use_is_refused(self, face: Face, guarded: Pool) -> None:
        client = face.create(guarded.url, api_key="sk-alice" * 4)
        with pytest.raises((sagepool.PermissionDeniedError, sagepool.NotFoundError)):
            face.embed(client, "a", model=EMBEDDING)

    def test_a_keys_limit_says_when_to_come_back(self, guarded: Pool) -> None:
        with sagepool.UnifiedInferenceClient.create(
            guarded.url, api_key="sk-slow" * 4, model=CHAT, timeout=5
        ) as client:
            client.chat("Hello", max_tokens=1)
            with pytest.raises(sagepool.RateLimitError) as told:
                client.chat("Hello", max_tokens=1)
        # longer than the call has time: it is told at once
        assert told.value.retry_after is not None
        assert told.value.retry_after > 5
