"""A server is told by what it says, not by its answering."""

from collections.abc import Callable
from typing import Any

import pytest

from client_server import MODELS, Received, Reply, error_reply, scripted
from sagepool import probes
from sagepool.catalog import Served
from sagepool.endpoints import Endpoint
from sagepool.errors import ConfigurationError
from sagepool.probes import NotServingError, ask_what_is_served
from simulator_server import CHAT, EMBEDDING, serving

VECTOR = Reply(body={"data": [{"index": 0, "embedding": [1.0]}]})


async def ask(url: str, api_key: str | None = None) -> Served:
    return await ask_what_is_served(Endpoint(f"{url}/v1", api_key))


async def why_not(url: str) -> str:
    with pytest.raises(NotServingError) as told:
        await ask(url)
    return str(told.value)


def listing(*models: dict[str, Any]) -> Reply:
    return Reply(body={"object": "list", "data": list(models)})


def tei(model: str, kind: str) -> Callable[[Received], Reply]:
    """It has no list of models, but says in /info what it is."""
    info = Reply(body={"model_id": model, "model_type": {kind: {}}})
    return lambda got: info if got.path == "/info" else error_reply(404)


async def test_a_list_with_roles_is_believed() -> None:
    models = listing(
        {"id": "m", "role": "llm", "owned_by": "sagepool-router", "ready": False},
        {"id": "e", "role": "embedding", "owned_by": "sagepool-router"},
        {"id": "n", "role": "llm", "owned_by": "sagepool-router", "ready": True},
    )
    with scripted(models=models) as server:
        served = await ask(server.url)
    assert served.models == {"llm": ["n", "m"], "embedding": ["e"]}
    assert served.owners == {"sagepool-router"}
    assert server.received == []  # nobody had to compute


async def test_a_key_that_cannot_be_sent_is_what_a_client_says_of_it() -> None:
    with scripted() as server, pytest.raises(ConfigurationError) as told:
        await ask(server.url, "secr\u00e9t")
    assert str(told.value) == "the API key must be printable ASCII: is it a line with its end?"
    assert server.listings == 0


async def test_a_list_without_roles_is_tried_out() -> None:
    async with serving() as url:
        assert (await ask(url)).models == {"llm": [CHAT], "embedding": [EMBEDDING]}


async def test_an_engine_that_only_embeds_is_no_llm() -> None:
    async with serving(models=(("e", "embedding"),)) as url:
        assert (await ask(url)).models == {"embedding": ["e"]}


async def test_one_token_is_asked_for_and_no_more() -> None:
    with scripted(Reply()) as server:
        assert (await ask(server.url)).models == {"llm": ["tiny"]}
    (chat,) = [got for got in server.received if got.path == "/v1/chat/completions"]
    assert chat.body["max_tokens"] == 1


async def test_tei_is_known_by_its_info() -> None:
    with scripted(VECTOR, models=tei("BAAI/bge-m3", "embedding")) as server:
        served = await ask(server.url)
    assert served.models == {"embedding": ("BAAI/bge-m3",)}
    assert served.takes_any_name


async def test_a_reranker_of_tei_embeds_nothing() -> None:
    with scripted(models=tei("r", "reranker")) as server:
        assert (await ask(server.url)).models == {}


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (Reply(body=b"<html>It works!</html>"), "answers (200), but not with a list of models"),
        (Reply(body={"status": "ok"}), "answers (200), but not with a list of models"),
        (Reply(body={"data": "x"}), "answers (200), but not with a list of models"),
        (Reply(body={"data": []}), "lists no models"),
        (error_reply(404), "answers (404), but not with a list of models"),
        (error_reply(407), "answers (407), but not with a list of models"),
        (error_reply(500), "answers (500), but not with a list of models"),
        (error_reply(401), "wants an API key: set SAGEPOOL_API_KEY"),
        (Reply(is_gone=True), "answers, but not in HTTP as it should"),
    ],
)
async def test_what_is_there_instead_is_told(models: Reply, why: str) -> None:
    with scripted(models=models) as server:
        assert why in await why_not(server.url)


async def test_a_list_of_models_that_answer_nothing_is_not_believed() -> None:
    with scripted(error_reply(404), models=Reply(body=MODELS)) as server:
        assert await why_not(server.url) == (
            "lists tiny, but answers neither a chat nor an embedding"
        )


async def test_an_answer_that_is_none_is_not_believed() -> None:
    with scripted(Reply(body={"ok": True})) as server:
        assert "answers neither" in await why_not(server.url)


async def test_nothing_there() -> None:
    with scripted() as server:
        url = server.url
    assert await why_not(url) == "nothing listens there"


@pytest.mark.parametrize("silent", ["list", "trial"])
async def test_silence_has_a_limit(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LIST_LIMIT_S", 0.1)
    monkeypatch.setattr(probes, "TRIAL_LIMIT_S", 0.1)
    mute = Reply(is_silent=True)
    with scripted(mute, models=mute if silent == "list" else None) as server:
        why = await why_not(server.url)
    assert why.startswith("does not answer within" if silent == "list" else "lists tiny, but")


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted() as proxy, scripted() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert (await ask(server.url)).models == {"llm": ["tiny"]}
    assert proxy.listings == 0


async def test_a_key_is_sent() -> None:
    with scripted() as server:
        await ask(server.url, "secret")
    assert {got.headers["authorization"] for got in server.received} == {"Bearer secret"}
