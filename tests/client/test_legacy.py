"""The two clients of before keep their names, factories and defaults."""

from collections.abc import Callable
from typing import Any

import pytest

from client_engines import engine
from client_server import Reply, delta, events, scripted
from sagepool import IntelligentEmbeddingClient, IntelligentLLMClient, UnexpectedAnswerError
from sagepool.closing import Closing

TWO = {"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}


def choice(text: str, *logprobs: float) -> dict[str, Any]:
    told = {"content": [{"token": "t", "logprob": value} for value in logprobs]}
    return {"message": {"content": text}, "logprobs": told if logprobs else None}


class TestLLM:
    def test_defaults_are_sent(self) -> None:
        with scripted() as server, IntelligentLLMClient("m", server.url) as client:
            assert client.chat([{"role": "user", "content": "hi"}]) == "hello"
        assert server.received[0].body == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.7,
            "max_tokens": 1500,
        }

    def test_zero_means_zero(self) -> None:
        with scripted() as server, IntelligentLLMClient("m", server.url, seed=0) as client:
            client.chat("hi", temperature=0, max_tokens=1)
        body = server.received[0].body
        assert (body["temperature"], body["max_tokens"], body["seed"]) == (0, 1, 0)

    def test_generate_takes_one_message_and_the_other_limit(self) -> None:
        with scripted() as server, IntelligentLLMClient("m", server.url) as client:
            client.generate({"role": "user", "content": "hi"}, max_new_tokens=7)
            client.generate("hi", max_tokens=5, max_new_tokens=7)
            client.generate("hi")
        assert [got.body["max_tokens"] for got in server.received] == [7, 5, 1500]
        assert server.received[0].body["messages"] == [{"role": "user", "content": "hi"}]

    def test_a_stream_is_an_iterator_of_text(self) -> None:
        reply = Reply(pieces=events(delta("he"), delta("llo", finish_reason="stop")))
        with scripted(reply) as server, IntelligentLLMClient("m", server.url) as client:
            stream: Any = client.chat("hi", stream=True)
            assert list(stream) == ["he", "llo"]

    @pytest.mark.parametrize(
        ("choices", "options", "answer"),
        [
            ([choice("a"), choice("b")], {"n": 2}, ["a", "b"]),
            ([choice("a", -0.5, -1)], {"logprobs": True}, ("a", [-0.5, -1])),
            (
                [choice("a", -0.5), choice("b", -2)],
                {"logprobs": True, "n": 2},
                [("a", [-0.5]), ("b", [-2])],
            ),
        ],
    )
    def test_several_choices_and_log_probabilities(
        self, choices: Any, options: Any, answer: Any
    ) -> None:
        with (
            scripted(Reply(body={"choices": choices})) as server,
            IntelligentLLMClient("m", server.url) as client,
        ):
            assert client.chat("hi", **options) == answer
        assert {name: server.received[0].body[name] for name in options} == options

    def test_an_engine_without_log_probabilities_is_told(self) -> None:
        with (
            scripted() as server,
            IntelligentLLMClient("m", server.url) as client,
            pytest.raises(UnexpectedAnswerError, match="log probabilities"),
        ):
            client.chat("hi", logprobs=True)

    def test_priority_deadline_and_thinking(self) -> None:
        with scripted() as server, IntelligentLLMClient("m", server.url) as client:
            client.chat("hi", priority="HIGH", slo_deadline_ms=900, enable_thinking=True)
        (got,) = server.received
        assert got.headers["x-sagepool-priority"] == "high"
        assert got.headers["x-sagepool-deadline-ms"] == "900"
        assert got.body["chat_template_kwargs"] == {"enable_thinking": True}

    def test_it_finds_its_server_like_everybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with scripted() as server:
            monkeypatch.setenv("SAGE_CHAT_BASE_URL", server.url)
            monkeypatch.setenv("SAGE_EMBEDDING_BASE_URL", server.url)
            with IntelligentLLMClient.create_auto("m") as client:
                assert client.chat("hi") == "hello"
                assert server.url in client.explain()
        assert server.received[0].body["model"] == "m"

    def test_it_has_the_control_plane(self) -> None:
        with (
            engine("m") as only,
            IntelligentLLMClient.create_with_control_plane([only.instance]) as client,
        ):
            assert client.chat("hi") == "re: hi"
            assert client.explain().startswith("control plane with policy adaptive")

    def test_one_key_is_one_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAGE_UNIFIED_BASE_URL", "http://a")
        first = IntelligentLLMClient.get_instance(cache_key="legacy")
        assert IntelligentLLMClient.get_instance(cache_key="legacy") is first
        first.cleanup()
        second = IntelligentLLMClient.get_instance(cache_key="legacy")
        assert second is not first
        second.close()

    @pytest.mark.parametrize(
        ("arguments", "named", "model", "name"),
        [
            ((), {}, None, "default"),
            (("qwen-max",), {}, "qwen-max", "qwen-max"),
            (("qwen-max", "mine"), {}, "qwen-max", "mine"),
            ((), {"model_name": "qwen-max", "cache_key": "mine"}, "qwen-max", "mine"),
            ((), {"model_name": "qwen-max", "base_url": "http://a"}, "qwen-max", "qwen-max"),
        ],
    )
    def test_the_first_argument_of_get_instance_is_the_model(
        self,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        named: dict[str, str],
        model: str | None,
        name: str,
    ) -> None:
        monkeypatch.setenv("SAGE_UNIFIED_BASE_URL", "http://a")
        with IntelligentLLMClient.get_instance(*arguments, **named) as client:
            assert client.model_name == model
            assert IntelligentLLMClient.get_instance(*arguments, **named) is client
            assert IntelligentLLMClient.get_cached_keys() == [name]

    def test_all_instances_are_closed_at_once(self) -> None:
        one = IntelligentLLMClient.get_instance("one", base_url="http://a")
        two = IntelligentLLMClient.get_instance("two", base_url="http://a")
        assert IntelligentLLMClient.get_cached_keys() == ["one", "two"]
        IntelligentLLMClient.clear_instances()
        assert (one.is_closed, two.is_closed) == (True, True)
        assert IntelligentLLMClient.get_cached_keys() == []

    def test_one_key_may_be_one_server(self) -> None:
        with (
            scripted(Reply(body=TWO)) as server,
            IntelligentEmbeddingClient.get_instance("there", base_url=server.url, model="e") as one,
        ):
            assert one.embed(["a"]) == [[1.0, 2.0, 3.0]]
            assert IntelligentEmbeddingClient.get_instance("there") is one


class TestEmbedding:
    def test_embed_and_get_dim(self) -> None:
        with (
            scripted(Reply(body=TWO)) as server,
            IntelligentEmbeddingClient(server.url, "e") as client,
        ):
            assert client.embed(["a"]) == [[1.0, 2.0, 3.0]]
            assert client.get_dim() == 3
            assert client.get_dim() == 3
        assert [got.body["model"] for got in server.received] == ["e", "e"]  # asked for once

    def test_its_factories(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with scripted(Reply(body=TWO)) as server:
            monkeypatch.setenv("SAGE_UNIFIED_BASE_URL", server.url)
            for client in (
                IntelligentEmbeddingClient.create_auto(model="x"),
                IntelligentEmbeddingClient.create("x"),
                IntelligentEmbeddingClient.create_api(server.url, "x"),
                IntelligentEmbeddingClient.get_instance("legacy", model="x"),
            ):
                with client:
                    assert client.embed("a", model="y") == [[1.0, 2.0, 3.0]]
                    assert client.embed("a") == [[1.0, 2.0, 3.0]]
        assert [got.body["model"] for got in server.received] == ["y", "x"] * 4


class TestArgumentsOfBefore:
    @pytest.mark.parametrize(
        ("make", "instead"),
        [
            (lambda: IntelligentLLMClient.create_auto(probe_timeout=1.5), "leave it out"),
            (lambda: IntelligentLLMClient.create_auto(api_key="k"), "SAGE_UNIFIED_API_KEY"),
            (
                lambda: IntelligentLLMClient("m", "http://a", use_control_plane=False),
                "create_with_control_plane",
            ),
            (lambda: IntelligentEmbeddingClient.create_auto("m", "small"), "sage inference start"),
            (lambda: IntelligentEmbeddingClient.create(fallback_model="small"), "in a server"),
            (lambda: IntelligentEmbeddingClient("http://a", "m", mode="api"), "create_api"),
        ],
    )
    def test_what_has_no_effect_warns_and_says_what_to_use(
        self, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Closing], instead: str
    ) -> None:
        monkeypatch.setenv("SAGE_UNIFIED_BASE_URL", "http://a")
        with pytest.warns(DeprecationWarning, match=instead), make():
            pass

    @pytest.mark.parametrize(
        "make", [IntelligentLLMClient.create_auto, IntelligentEmbeddingClient.create_auto]
    )
    def test_what_was_never_known_is_refused(self, make: Callable[..., Closing]) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            make(colour="red")

    def test_the_control_plane_takes_them_by_place_and_by_name(self) -> None:
        with engine("m") as only:
            with (
                pytest.warns(DeprecationWarning, match="use scheduling_policy="),
                IntelligentLLMClient.create_with_control_plane(
                    [only.instance], "adaptive", "load_balanced"
                ) as client,
            ):
                assert client.chat("hi") == "re: hi"
            with (
                pytest.warns(DeprecationWarning, match="enable_pd_separation has no effect"),
                IntelligentLLMClient.create_with_control_plane(
                    [only.instance], enable_pd_separation=True
                ) as client,
            ):
                assert client.chat("hi") == "re: hi"
