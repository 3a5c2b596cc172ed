"""Asks an engine over HTTP how it is: health, models, load, and one embedding.

The operator probes every instance with it; a router that reads its pool from a file does so
itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import httpx

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


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found."""

    verdict: Verdict
    message: str = ""
    """What is wrong and the next step; empty when the engine is ready."""
    max_model_len: int | None = None
    space: EmbeddingSpace | None = None
    """None when no embedding was asked for."""
    load: EngineLoad | None = None
    is_refused: bool = False
    """The connection was refused: the process is gone, there is nothing to be patient with."""

    @property
    def is_ready(self) -> bool:
        """Whether the engine can be sent requests."""
        return self.verdict == "EngineReady"


async def probe(
    client: httpx.AsyncClient, engine: EngineType, endpoint: Endpoint, *, embed: bool
) -> ProbeResult:
    """Probe one endpoint.

    The client's own time-out bounds each of the up to four calls. `embed` asks for an embedding
    of a short text from an embedding endpoint too, which costs the engine work: once, when it
    becomes ready, is enough.
    """
    if endpoint.url is None:
        return ProbeResult("NoAddress", "the pod has no address yet")
    url = endpoint.url.rstrip("/")
    dialect = DIALECTS[engine]
    try:
        return await _probe(client, dialect, url, endpoint, embed=embed)
    except UnexpectedAnswerError as error:
        return ProbeResult("UnexpectedAnswer", f"{url} answers, but {error}: is it {engine}?")
    except httpx.TimeoutException:
        return ProbeResult("Unreachable", f"{url} does not answer in time")
    except httpx.ConnectError as error:
        return ProbeResult("Unreachable", f"{url} cannot be reached: {error}", is_refused=True)
    except httpx.HTTPError as error:
        return ProbeResult("Unreachable", f"{url} does not answer: {error or type(error).__name__}")


async def _probe(
    client: httpx.AsyncClient, dialect: Dialect, url: str, endpoint: Endpoint, *, embed: bool
) -> ProbeResult:
    health = await client.get(url + dialect.health_path)
    if health.status_code != 200:
        return ProbeResult("Unhealthy", f"{url}{dialect.health_path} answers {health.status_code}")
    served = dialect.read_facts(_json(await client.get(url + dialect.facts_path)))
    missing = _missing(served, endpoint.models)
    if missing:
        return ProbeResult(
            "ModelNotServed",
            f"{url} serves {', '.join(served.models) or 'no model'}, not {', '.join(missing)}: "
            "correct the model's name or the engine",
        )
    space = None
    if embed and endpoint.role == "embedding":
        answer = await _embed(client, url, endpoint.models[0])
        if isinstance(answer, str):
            return ProbeResult("EmbeddingFailed", f"{url}: {answer}")
        space = answer
    metrics = await client.get(url + dialect.metrics_path)
    load = read_load(dialect, metrics.text) if metrics.status_code == 200 else None
    return ProbeResult("EngineReady", "", served.max_model_len, space, load)


def _missing(served: Served, wanted: Sequence[str]) -> list[str]:
    if not served.models:
        return []
    return [model for model in wanted if model not in served.models]


async def _embed(client: httpx.AsyncClient, url: str, model: str) -> EmbeddingSpace | str:
    """The space of the probe text's embedding, or what is wrong with it."""
    response = await client.post(
        f"{url}/v1/embeddings", json={"model": model, "input": [PROBE_TEXT]}
    )
    if response.status_code != 200:
        return f"an embedding of a short text is answered with {response.status_code}"
    try:
        vector = [float(x) for x in _json(response)["data"][0]["embedding"]]
    except (TypeError, KeyError, IndexError, ValueError):
        return "the embedding of a short text is not in OpenAI's form"
    try:
        return describe_space(vector)
    except ValueError:
        return "the embedding of a short text is empty, zero or not finite"


def _json(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise UnexpectedAnswerError(f"{response.url.path} is answered {response.status_code}")
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswerError(f"{response.url.path} is not JSON") from error
