"""However calls are merged and split, every caller gets what it would have got alone."""

import base64
import hashlib
import json
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.embedding.answer import EmbeddingAnswer, read_answer, write_answer
from sagepool_router.embedding.merge import write_request
from sagepool_router.embedding.request import EmbeddingRequest, read_request
from sagepool_router.embedding.usage_shares import split_usage


class Engine:
    """Answers as vLLM or as TEI; an embedding depends on everything that the engine is asked."""

    def __init__(self, style: str, layout: tuple[str, str]) -> None:
        self._style = style
        self._layout = layout
        self.calls = 0

    def answer(self, body: bytes) -> bytes:
        self.calls += 1
        asked = json.loads(body)
        for ignored in ("user", "priority"):
            asked.pop(ignored, None)
        given_input = asked.pop("input")
        if isinstance(given_input, str) or isinstance(given_input[0], int):
            given_input = [given_input]
        if len({type(text) for text in given_input}) > 1:
            raise AssertionError("an engine refuses strings and token ids in one list")
        if asked.get("dimensions", 0) is None:
            del asked["dimensions"]
        encoding = asked.pop("encoding_format", None) or "float"
        data = [self._item(n, text, asked, encoding) for n, text in enumerate(given_input)]
        tokens = sum(len(text) for text in given_input)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer: dict[str, object] = {"object": "list", "data": data, "model": "m", "usage": usage}
        if self._style == "vllm":
            usage["completion_tokens"] = 0
            answer = {"id": f"embd-{self.calls}", "created": 17} | answer
        return json.dumps(answer, separators=self._layout).encode()

    def _item(self, index: int, text: object, asked: object, encoding: str) -> dict[str, object]:
        seed = json.dumps([text, asked], sort_keys=True).encode()
        vector = struct.unpack("<4I", hashlib.md5(seed, usedforsecurity=False).digest())
        numbers = [number / 2**31 - 1 for number in vector]
        packed = base64.b64encode(struct.pack("<4f", *numbers)).decode()
        embedding = packed if encoding == "base64" else numbers
        if self._style == "vllm":
            return {"index": index, "object": "embedding", "embedding": embedding}
        return {"object": "embedding", "embedding": embedding, "index": index}


@dataclass
class Caller:
    """A request on its way through merged calls."""

    request: EmbeddingRequest
    embeddings: list[bytes] = field(default_factory=list)
    tokens: int = 0


def answer_merged(engine: Engine, callers: list[Caller], batch_size: int) -> list[EmbeddingAnswer]:
    """Send the texts of callers whose parameters are equal in calls of `batch_size` texts."""
    answers = []
    waiting = iter([(c, n) for c in callers for n in range(len(c.request.texts))])
    while batch := list(islice(waiting, batch_size)):
        texts = [caller.request.texts[n] for caller, n in batch]
        body = engine.answer(write_request("m", callers[0].request.parameters, texts))
        answer = read_answer(body, len(texts))
        weights = [caller.request.tokens[n] for caller, n in batch]
        shares = split_usage(answer.total_tokens, weights)
        for (caller, _), embedding, share in zip(batch, answer.embeddings, shares, strict=True):
            caller.embeddings.append(embedding)
            caller.tokens += share
        answers.append(answer)
    return answers


words = st.text(min_size=1, max_size=12)
ids = st.lists(st.integers(0, 10**5), min_size=1, max_size=6)
inputs = words | st.lists(words, min_size=1, max_size=7) | ids | st.lists(ids, min_size=1)
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "input": inputs},
    optional={
        "encoding_format": st.sampled_from([None, "float", "base64"]),
        "dimensions": st.sampled_from([None, 4]),
        "user": words,
        "priority": st.integers(-2, 2),
        "cache_salt": st.sampled_from(["a", "b"]),
    },
)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
engines = st.builds(Engine, st.sampled_from(["vllm", "tei"]), layouts)


@given(st.lists(bodies, min_size=1, max_size=8), st.integers(1, 9), engines, layouts)
def test_every_caller_gets_what_it_would_have_got_alone(
    asked: list[dict[str, object]], batch_size: int, engine: Engine, layout: tuple[str, str]
) -> None:
    written = [json.dumps(body, separators=layout).encode() for body in asked]
    callers = [Caller(read_request(body)) for body in written]
    merged = defaultdict(list)
    for caller in callers:
        assert caller.request.is_mergeable
        merged[caller.request.parameters].append(caller)
    answers = [a for group in merged.values() for a in answer_merged(engine, group, batch_size)]
    for body, caller in zip(written, callers, strict=True):
        alone = json.loads(engine.answer(body))
        extras = answers[0].extras(alone.get("id", ""))
        ours = json.loads(
            write_answer("m", caller.embeddings, caller.tokens, caller.tokens, extras)
        )
        del alone["usage"], ours["usage"]
        assert ours == alone
    assert sum(c.tokens for c in callers) == sum(a.total_tokens for a in answers)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_requests_that_differ_in_nothing_an_engine_knows_share_one_call(encoding: str) -> None:
    engine = Engine("vllm", (",", ":"))
    callers = [
        Caller(read_request(json.dumps(body).encode()))
        for body in (
            {"input": "one", "model": "m", "encoding_format": encoding, "user": "a"},
            {"model": "m", "input": ["two", "three"], "encoding_format": encoding, "priority": 1},
            {"encoding_format": encoding, "model": "m", "dimensions": None, "input": ["four"]},
        )
    ]
    assert len({c.request.parameters for c in callers}) == 1
    (answer,) = answer_merged(engine, callers, 32)
    assert [len(c.embeddings) for c in callers] == [1, 2, 1]
    assert sum(c.tokens for c in callers) == answer.total_tokens
