"""Asks an engine over HTTP how it is: health, models, load, and one embedding.

The operator probes every instance with it; a router that reads its pool from a file does so
itself.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from sagepool_crds.instance import Endpoint
from sagepool_crds.pool import EngineType
from sagepool_crds.space import EmbeddingSpace
from sagepool_engines.dialects import (
    DIALECTS,
    Dialect,
    EngineLoad,
    Served,
    UnexpectedAnswerError,
    read_load,
)
from sagepool_engines.http import Answer, EngineHttp, NotAnsweredError
from sagepool_engines.space import describe_space

Verdict: TypeAlias = Literal[
    "EngineReady",  # it answers and serves what it should
    "NoAddress",  # its pod has no address yet
    "Unreachable",  # nothing listens, or it does not answer in time: while loading, this is usual
    "Unhealthy",  # it answers its health check with an error
    "UnexpectedAnswer",  # something else listens there
    "ModelNotServed",  # it serves other names than it should
    "EmbeddingFailed",  # it does not embed the probe text, or not to a usable vector
]

PROBE_TEXT: Final = "sagepool probe"
"""Never to be changed: spaces that were told of earlier are compared by it."""


FACTS_EVERY: Final = 12
"""So many probes of an engine that stays ready: one of them asks what it serves."""


class Depth(IntEnum):
    """How much a probe asks; each includes those before it."""

    HEALTH = 0
    """Whether it answers: for an engine that was ready a moment ago."""
    FACTS = 1
    """What it serves: for one that may have been started anew."""
    EMBEDDING = 2
    """An embedding of a short text, from an endpoint that embeds. It costs the engine work: once,
    when it becomes ready, is enough."""


def choose_depth(*, was_ready: bool, has_failed: bool, number: int) -> Depth:
    """How much the next probe asks.

    `number` counts the probes of an engine: from time to time one asks what it serves, because
    another program may have taken its address between two of them.
    """
    if not was_ready:
        return Depth.EMBEDDING
    return Depth.FACTS if has_failed or number % FACTS_EVERY == 0 else Depth.HEALTH


def select_endpoints(endpoints: Iterable[Endpoint], depth: Depth) -> Sequence[Endpoint]:
    """Those that a probe of this depth asks: for its health, one of each address is enough."""
    if depth > Depth.HEALTH:
        return tuple(endpoints)
    return tuple({endpoint.url: endpoint for endpoint in endpoints}.values())


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found."""

    verdict: Verdict
    message: str = ""
    """What is wrong and the next step; empty when the engine is ready."""
    max_model_len: int | None = None
    """None when it was not asked for, or is not told."""
    space: EmbeddingSpace | None = None
    """None when no embedding was asked for."""
    load: EngineLoad | None = None
    adapters: tuple[str, ...] | None = None
    """Names of the LoRA adapters that it has; None when it was not asked."""
    is_refused: bool = False
    """The connection was refused: the process is gone, there is nothing to be patient with."""

    @property
    def is_ready(self) -> bool:
        """Whether the engine can be sent requests."""
        return self.verdict == "EngineReady"


async def probe(
    http: EngineHttp,
    engine: EngineType,
    endpoint: Endpoint,
    depth: Depth,
    *,
    with_load: bool = True,
) -> ProbeResult:
    """Probe one endpoint. Each of the up to four calls has the limit in time that `http` has."""
    if endpoint.url is None:
        return ProbeResult("NoAddress", "the pod has no address yet")
    url = endpoint.url.rstrip("/")
    dialect = DIALECTS[engine]
    try:
        found = await _look(http, dialect, url, endpoint, depth)
        if not found.is_ready or not with_load:
            return found
        return replace(found, load=await _ask_load(http, dialect, url))
    except UnexpectedAnswerError as error:
        return ProbeResult("UnexpectedAnswer", f"{url} answers, but {error}: is it {engine}?")
    except NotAnsweredError as error:
        return _not_answered(url, error)


def _not_answered(url: str, error: NotAnsweredError) -> ProbeResult:
    if error.is_late:
        return ProbeResult("Unreachable", f"{url} does not answer in time")
    what = "cannot be reached" if error.is_refused else "does not answer"
    return ProbeResult("Unreachable", f"{url} {what}: {error}", is_refused=error.is_refused)


async def _look(
    http: EngineHttp, dialect: Dialect, url: str, endpoint: Endpoint, depth: Depth
) -> ProbeResult:
    health = await http.get(url + dialect.health_path)
    if health.status != 200:
        return ProbeResult("Unhealthy", f"{url}{dialect.health_path} answers {health.status}")
    if depth < Depth.FACTS:
        return ProbeResult("EngineReady")
    facts_url = url + dialect.facts_path
    served = dialect.read_facts(_json(facts_url, await http.get(facts_url)))
    missing = _missing(served, endpoint.models)
    if missing:
        return ProbeResult(
            "ModelNotServed",
            f"{url} serves {', '.join(served.models) or 'no model'}, not {', '.join(missing)}: "
            "correct the model's name or the engine",
        )
    space = None
    if depth >= Depth.EMBEDDING and endpoint.role == "embedding":
        answer = await _embed(http, url, endpoint.models[0])
        if isinstance(answer, str):
            return ProbeResult("EmbeddingFailed", f"{url}: {answer}")
        space = answer
    adapters = tuple(name for name, _ in served.adapters)
    return ProbeResult("EngineReady", "", served.max_model_len, space, adapters=adapters)


async def _ask_load(http: EngineHttp, dialect: Dialect, url: str) -> EngineLoad | None:
    metrics = await http.get(url + dialect.metrics_path)
    if metrics.status != 200:
        return None
    return read_load(dialect, metrics.body.decode(errors="replace"))


def _missing(served: Served, wanted: Sequence[str]) -> list[str]:
    if not served.models:
        return []
    return [model for model in wanted if model not in served.models]


async def _embed(http: EngineHttp, url: str, model: str) -> EmbeddingSpace | str:
    """The space of the probe text's embedding, or what is wrong with it."""
    url += "/v1/embeddings"
    answer = await http.post(url, {"model": model, "input": [PROBE_TEXT]})
    if answer.status != 200:
        return f"an embedding of a short text is answered with {answer.status}"
    try:
        vector = [float(x) for x in _json(url, answer)["data"][0]["embedding"]]
    except (TypeError, KeyError, IndexError, ValueError):
        return "the embedding of a short text is not in OpenAI's form"
    try:
        return describe_space(vector)
    except ValueError:
        return "the embedding of a short text is empty, zero or not finite"


def _json(url: str, answer: Answer) -> Any:
    if answer.status != 200:
        raise UnexpectedAnswerError(f"{urlsplit(url).path} is answered {answer.status}")
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise UnexpectedAnswerError(f"{urlsplit(url).path} is not JSON") from error
