"""A person's first steps: apply, look, talk."""

import re

import pytest
from openai import NotFoundError, OpenAI

from e2e_pool import CHAT_ALIAS, CHAT_MODEL, EMBEDDING_MODEL, Pool
from sagepool_crds import names


@pytest.fixture
def openai(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def read_row(table: str, name: str) -> dict[str, str]:
    """The row of a kubectl table that begins with `name`, by column."""
    lines = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    return next(dict(zip(lines[0], row, strict=False)) for row in lines if row[0] == name)


def test_get_spool_answers_the_first_question(pool: Pool) -> None:
    row = read_row(pool.kubectl.run("get", "spool").stdout, "rag")
    assert row["READY"] == "3/3"
    assert CHAT_MODEL in row["MODELS"]
    assert EMBEDDING_MODEL in row["MODELS"]
    assert row["ENDPOINT"] == f"http://rag-router.{pool.kubectl.namespace}.svc/v1"
    assert row["STATUS"] == pool.condition(names.READY)["reason"]


def test_get_sinst_shows_every_engine_by_its_pods_name(pool: Pool) -> None:
    engines = pool.engines()
    assert len(engines) == 3
    table = pool.kubectl.run("get", "sinst").stdout
    for name in engines:
        row = read_row(table, name)
        assert (row["POOL"], row["PHASE"]) == ("rag", "Ready")
    roles = {name: read_row(table, name)["ROLE"] for name in engines}
    assert {name for name, role in roles.items() if role == "llm"} == set(pool.engines("chat"))


def test_the_status_counts_engines_by_group_and_by_model(pool: Pool) -> None:
    status = pool.get()["status"]
    groups = {g["name"]: (g["ready"], g["desired"], g["updated"]) for g in status["groups"]}
    assert groups == {"chat": (2, 2, 2), "embed": (1, 1, 1)}
    models = {m["name"]: (m["role"], m["ready"], m["desired"]) for m in status["models"]}
    assert models[CHAT_MODEL] == ("llm", 2, 2)
    assert models[EMBEDDING_MODEL] == ("embedding", 1, 1)


def test_the_endpoint_lists_the_models(openai: OpenAI) -> None:
    assert {CHAT_MODEL, EMBEDDING_MODEL} <= {model.id for model in openai.models.list()}


def test_chat_answers_in_one_piece_or_streamed_by_name_and_by_alias(openai: OpenAI) -> None:
    for model in (CHAT_MODEL, CHAT_ALIAS):
        whole = openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=8
        )
        assert whole.choices[0].message.content
        with openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=8, stream=True
        ) as stream:
            pieces = [chunk.choices[0] for chunk in stream if chunk.choices]
        assert sum(bool(piece.delta.content) for piece in pieces) > 1
        assert pieces[-1].finish_reason is not None


def test_embeddings_come_in_order_and_normalised(openai: OpenAI) -> None:
    texts = ["engines come and go", "a recipe for soup", "engines come and go"]
    answer = openai.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    first, other, again = (entry.embedding for entry in answer.data)
    assert first == pytest.approx(again, abs=1e-6)
    assert sum(x * y for x, y in zip(first, other, strict=True)) < 0.9
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-3)


def test_answers_name_the_instance_that_gave_them(openai: OpenAI, pool: Pool) -> None:
    raw = openai.embeddings.with_raw_response.create(model=EMBEDDING_MODEL, input="text")
    assert raw.headers[names.INSTANCE_HEADER] in pool.engines("embed")


def test_an_unknown_model_is_refused_with_those_that_exist(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError, match=EMBEDDING_MODEL):
        openai.embeddings.create(model="bge-m4", input="text")
