"""Embeddings from the provider: when they may come from there, and what is checked of them."""

import json
from dataclasses import replace

import pytest

from router_cloud import CAUSES, post_texts, said_of, sent, serve_site
from router_embedders import embed
from router_wire import ask, eventually
from sagepool_router.cloud import Cause
from sagepool_router.limits import Limits


@pytest.mark.parametrize("cause", CAUSES[1:])
def test_embeddings_go_there_only_if_the_pool_says_that_the_model_is_the_same(
    cause: Cause,
) -> None:
    with serve_site("embeds", cause, role="embedding") as site:
        response = ask(site.port, post_texts(["a"]))
        assert response.status == (429 if cause == "overloaded" else 503)
        assert (site.provider.requests, site.fallbacks) == ([], {})
    with serve_site("embeds", cause, role="embedding", same_space=("ok",)) as site:
        response = ask(site.port, post_texts(["a", "b"]))
        assert (response.status, *said_of(response)) == (200, "cloud", f"cloud_{cause}")
        data = json.loads(response.body)["data"]
        assert [item["embedding"] for item in data] == [embed("a"), embed("b")]
        assert sent(site.provider)["model"] == "theirs"


def test_in_source_cloud_there_is_nothing_that_embeddings_could_be_mixed_with() -> None:
    with serve_site("embeds", "source", role="embedding") as site:
        assert ask(site.port, post_texts("a", dimensions=7)).status == 200


@pytest.mark.parametrize("more", [{}, {"encoding_format": "base64"}])
@pytest.mark.parametrize("cause", CAUSES)
def test_embeddings_of_another_length_are_refused_and_none_of_them_is_shown(
    cause: Cause, more: dict[str, object]
) -> None:
    with serve_site("embeds", cause, role="embedding", same_space=("ok",)) as site:
        table = site.router.dispatcher.fleet.table
        longer = {name: replace(route, dimension=1024) for name, route in table.models.items()}
        site.router.swap(replace(table, version=2, models=longer))
        response = ask(site.port, post_texts(["a", "b"], **more))
        assert (response.status, response.code) == (502, "other_embedding_space")
        assert "3 dimensions" in str(response.error["message"])
        assert "1024" in str(response.error["message"])
        assert b"data" not in response.body


def test_embeddings_are_as_long_as_the_caller_wants_them() -> None:
    with serve_site("embeds", "absent", role="embedding", same_space=("ok",)) as site:
        response = ask(site.port, post_texts("a", dimensions=2))
        assert response.status == 200
        assert json.loads(response.body)["data"][0]["embedding"] == embed("a", 2)


@pytest.mark.parametrize("text", ["bad_json", "error_in_ok"])
def test_an_answer_without_embeddings_is_a_502(text: str) -> None:
    with serve_site("embeds", "absent", role="embedding", same_space=("ok",)) as site:
        response = ask(site.port, post_texts([text]))
        assert (response.status, response.code) == (502, "malformed_answer")


def test_many_texts_travel_to_the_provider_in_one_piece() -> None:
    texts = [f"text {i}" for i in range(100)]
    with serve_site("embeds", "absent", role="embedding", same_space=("ok",)) as site:
        data = json.loads(ask(site.port, post_texts(texts)).body)["data"]
        assert [item["embedding"] for item in data] == [embed(text) for text in texts]
        assert len(site.provider.requests) == 1


def test_an_answer_that_is_too_large_to_hold_back_is_a_502() -> None:
    limits = Limits(max_batch_answer_bytes=200)
    with serve_site(
        "embeds", "absent", role="embedding", same_space=("ok",), limits=limits
    ) as site:
        response = ask(site.port, post_texts(["a"] * 50))
        assert (response.status, response.code) == (502, "engine_failed")


def test_embeddings_cost_their_texts() -> None:
    with serve_site(
        "embeds", "absent", role="embedding", same_space=("ok",), price_input=1.0, price_output=9.0
    ) as site:
        told = json.loads(ask(site.port, post_texts(["one two", "three"])).body)["usage"]
        eventually(lambda: bool(site.costs), "it is counted")
        assert site.costs == {"ok": pytest.approx(told["prompt_tokens"] / 1e6)}
