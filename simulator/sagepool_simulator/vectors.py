"""The routes that make vectors, and what is made of vectors: embeddings, rerank, score."""

from collections.abc import Callable
from typing import Any

import msgspec

from sagepool_simulator.adapters import Served
from sagepool_simulator.calls import Call, InEngine
from sagepool_simulator.connection import Work
from sagepool_simulator.embedding import cosine, embed, normalise
from sagepool_simulator.engine import EmbeddingCall, Engine
from sagepool_simulator.faults import Fault
from sagepool_simulator.settings import Settings
from sagepool_simulator.text import count_tokens
from sagepool_simulator.wire import (
    EmbeddingRequest,
    RerankRequest,
    ScoreRequest,
    bad_request,
    check_model,
    encode,
    encode_vector,
    split_inputs,
    usage,
)

_embedding = msgspec.json.Decoder(EmbeddingRequest).decode
_rerank = msgspec.json.Decoder(RerankRequest).decode
_score = msgspec.json.Decoder(ScoreRequest).decode


class VectorRoutes:
    """Embeddings, rerank and score on an engine.

    Args:
        settings: what the engine was told.
        served: the names that it answers to.
        engine: its batch.
        new_id: a new id at each call.
        now: Unix time.
    """

    def __init__(
        self,
        settings: Settings,
        served: Served,
        engine: Engine,
        new_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._served = served
        self._engine = engine
        self._new_id = new_id
        self._now = now

    def serve_embedding(self, call: Call) -> Work | None:
        """POST /v1/embeddings."""
        asked = _embedding(call.body)
        check_model(self._served, asked.model, "embedding")
        # token ids have no text here: each becomes a word of its own
        inputs = split_inputs(asked.input, "input")
        texts = [i if isinstance(i, str) else " ".join(map(str, i)) for i in inputs]
        counts = [count_tokens(i) if isinstance(i, str) else len(i) for i in inputs]
        dimension = self._dimension(asked.dimensions)

        def finish() -> None:
            data = [
                {
                    "index": index,
                    "object": "embedding",
                    "embedding": encode_vector(
                        self._vector(text, dimension, call.fault), asked.encoding_format
                    ),
                }
                for index, text in enumerate(texts)
            ]
            answer = self._list("embd", asked.model, data, sum(counts))
            call.connection.reply(200, encode(answer))

        return self._compute(counts, finish)

    def serve_rerank(self, call: Call) -> Work | None:
        """POST /rerank, /v1/rerank and /v2/rerank: documents by likeness to the query."""
        asked = _rerank(call.body)
        check_model(self._served, asked.model, "embedding")
        if not asked.documents:
            raise bad_request("documents must not be empty", "documents")
        counts = [count_tokens(text) for text in (asked.query, *asked.documents)]

        def finish() -> None:
            size = self._settings.dimension
            query = self._vector(asked.query, size, call.fault)
            scores = [
                (cosine(query, self._vector(document, size, call.fault)), index)
                for index, document in enumerate(asked.documents)
            ]
            best = sorted(scores, key=lambda score: (-score[0], score[1]))
            answer = {
                "id": f"rerank-{self._new_id()}",
                "model": asked.model,
                "usage": {"prompt_tokens": sum(counts), "total_tokens": sum(counts)},
                "results": [
                    {
                        "index": index,
                        "document": {"text": asked.documents[index]},
                        "relevance_score": score,
                    }
                    for score, index in best[: asked.top_n or None]
                ],
            }
            call.connection.reply(200, encode(answer))

        return self._compute(counts, finish)

    def serve_score(self, call: Call) -> Work | None:
        """POST /score and /v1/score: likeness of pairs, or of one text to each of many."""
        asked = _score(call.body)
        check_model(self._served, asked.model, "embedding")
        left = [asked.text_1] if isinstance(asked.text_1, str) else asked.text_1
        right = [asked.text_2] if isinstance(asked.text_2, str) else asked.text_2
        if len(left) == 1:
            left = left * len(right)
        if not left or len(left) != len(right):
            raise bad_request(
                "text_1 must be one text, or as many as text_2, and neither may be empty", "text_1"
            )
        counts = [count_tokens(text) for text in (*left, *right)]

        def finish() -> None:
            size = self._settings.dimension
            data = [
                {
                    "index": index,
                    "object": "score",
                    "score": cosine(
                        self._vector(one, size, call.fault), self._vector(other, size, call.fault)
                    ),
                }
                for index, (one, other) in enumerate(zip(left, right, strict=True))
            ]
            answer = self._list("score", asked.model, data, sum(counts))
            call.connection.reply(200, encode(answer))

        return self._compute(counts, finish)

    def _compute(self, counts: list[int], finish: Callable[[], None]) -> Work:
        limit, longest = self._settings.max_model_len, max(counts)
        if longest > limit:
            raise bad_request(
                f"This model's maximum context length is {limit} tokens. However, you requested "
                f"{longest} tokens in the input."
            )
        call = EmbeddingCall(len(counts), sum(counts), finish)
        self._engine.submit(call)
        return InEngine(self._engine, call)

    def _vector(self, text: str, dimension: int, fault: Fault | None) -> list[float]:
        vector = embed(text, self._settings.dimension)
        if dimension < self._settings.dimension:
            vector = normalise(vector[:dimension])
        if fault is not None and fault.kind == "wrong_dimension":
            return [*vector, 0.0]
        if fault is not None and fault.kind == "not_normalised":
            return [2 * x for x in vector]
        return vector

    def _dimension(self, asked: int | None) -> int:
        largest = self._settings.dimension
        if asked is None:
            return largest
        if not 1 <= asked <= largest:
            raise bad_request(f"dimensions must be from 1 to {largest}, got {asked}.", "dimensions")
        return asked

    def _list(
        self, prefix: str, model: str, data: list[dict[str, Any]], tokens: int
    ) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self._new_id()}",
            "object": "list",
            "created": int(self._now()),
            "model": model,
            "data": data,
            "usage": usage(tokens, 0),
        }
