"""How each engine speaks of itself: paths, metric names, answers. Pure.

Sources: vLLM 0.25 (`vllm/v1/metrics`, `vllm/entrypoints/openai`), Text Embeddings Inference 1.9
(`router/src/server.rs`, its metrics page).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import EngineType


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine's metrics say of its load, unrounded."""

    running: int
    waiting: int
    kv_cache_usage: float


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine says that it serves."""

    models: tuple[str, ...]
    """Empty when the engine answers to any name (TEI)."""
    max_model_len: int | None = None
    adapters: tuple[tuple[str, str], ...] = ()
    """The LoRA adapters among the models: name, and where it was loaded from."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The paths and names of one engine type."""

    health_path: str
    facts_path: str
    read_facts: Callable[[Any], Served]
    metrics_path: str
    running_metrics: frozenset[str]
    waiting_metrics: frozenset[str]
    usage_metrics: frozenset[str]
    progress_metrics: frozenset[str]
    """Counters that grow with every request, also with one that no gauge is asked in time for."""


class UnexpectedAnswerError(Exception):
    """Something answers at the address, but not as the engine would."""


def _read_openai_models(body: Any) -> Served:
    try:
        models = [(entry["id"], entry.get("max_model_len")) for entry in body["data"]]
        owners = {entry.get("owned_by") for entry in body["data"]}
        adapters = [(e["id"], e.get("root", "")) for e in body["data"] if e.get("parent")]
    except (TypeError, KeyError, AttributeError) as error:
        raise UnexpectedAnswerError("its list of models is not in OpenAI's form") from error
    if names.ROUTER_OWNER in owners:
        # Its requests could come back to the router that sent them.
        raise UnexpectedAnswerError("it is a sagepool router: name the engines behind it")
    lengths = [length for _, length in models if isinstance(length, int) and length > 0]
    return Served(
        tuple(str(name) for name, _ in models),
        min(lengths, default=None),
        tuple((str(name), str(root)) for name, root in adapters),
    )


def _read_tei_info(body: Any) -> Served:
    if not isinstance(body, dict) or "model_id" not in body:
        raise UnexpectedAnswerError("its /info is not that of Text Embeddings Inference")
    length = body.get("max_input_length")
    return Served((), length if isinstance(length, int) and length > 0 else None)


_VLLM: Final = Dialect(
    health_path="/health",
    facts_path="/v1/models",
    read_facts=_read_openai_models,
    metrics_path="/metrics",
    running_metrics=frozenset({"vllm:num_requests_running"}),
    waiting_metrics=frozenset({"vllm:num_requests_waiting"}),
    usage_metrics=frozenset({"vllm:kv_cache_usage_perc"}),
    progress_metrics=frozenset({"vllm:prompt_tokens_total", "vllm:request_success_total"}),
)
DIALECTS: Final[Mapping[EngineType, Dialect]] = MappingProxyType(
    {
        "vllm": _VLLM,
        "simulator": _VLLM,
        "tei": Dialect(
            health_path="/health",
            facts_path="/info",
            read_facts=_read_tei_info,
            metrics_path="/metrics",
            running_metrics=frozenset(),
            waiting_metrics=frozenset({"te_queue_size"}),
            usage_metrics=frozenset(),
            progress_metrics=frozenset({"te_request_count"}),
        ),
    }
)


def read_load(dialect: Dialect, exposition: str) -> EngineLoad:
    """Read the load from a page in Prometheus' text format.

    Counts are summed over label sets (an engine with several cores has one each), the cache's
    usage is the fullest core's. Metrics that the page lacks count as zero.
    """
    running = waiting = usage = 0.0
    for line in exposition.splitlines():
        if not line or line[0] == "#":
            continue
        name = line.partition("{")[0].partition(" ")[0]
        if name in dialect.running_metrics:
            running += _value(line)
        elif name in dialect.waiting_metrics:
            waiting += _value(line)
        elif name in dialect.usage_metrics:
            usage = max(usage, _value(line))
    return EngineLoad(int(running), int(waiting), min(max(usage, 0.0), 1.0))


def _value(line: str) -> float:
    fields = line.rpartition("}")[2].split()
    # Without labels the name stands first; a time stamp may follow the value.
    text = fields[0] if "}" in line else fields[1]
    try:
        value = float(text)
    except ValueError as error:
        raise UnexpectedAnswerError(f"metric without a number: {line[:200]}") from error
    return 0.0 if math.isnan(value) else value
