"""Tables for a router in memory: pools of a few engines of both kinds, with all that can vary."""

from dataclasses import replace
from random import Random
from typing import Final

from router_memory_requests import ALIASES
from router_server import backend
from sagepool_crds.pool import Role
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import Backend, CloudTarget, ModelRoute, RoutingTable

ROLES: Final[dict[str, Role]] = {"chat": "llm", "embedder": "embedding"}
"""Of the models."""
LLMS: Final = 4
EMBEDDERS: Final = 3
_POLICIES: Final = ("fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid")
_LLM_PORT: Final = 1000
_EMBEDDER_PORT: Final = 2000
_PROVIDER_PORT: Final = 3000


def places() -> list[tuple[int, str, tuple[str, ...]]]:
    """Every engine that a table may name: port, name and models."""
    return [
        *((_LLM_PORT + n, f"llm-{n}", ("chat",)) for n in range(LLMS)),
        *((_EMBEDDER_PORT + n, f"embedder-{n}", ("embedder",)) for n in range(EMBEDDERS)),
        (_PROVIDER_PORT, "cloud", ("their-chat", "their-embedder")),
    ]


def make_table(random: Random, version: int) -> RoutingTable:
    """A pool that has all its models at first, and later maybe less."""
    choose = random.choice
    limit = choose((1, 1, 2, 8))
    backends = {
        "chat": [
            _backend("llm", n, random, limit, version) for n in range(choose((1, 1, 2, LLMS)))
        ],
        "embedder": [
            _backend("embedder", n, random, limit, version)
            for n in range(choose((1, 1, EMBEDDERS)))
        ],
    }
    if version > 1:
        del backends[choose(("chat", "embedder"))][choose((0, 1, 1, 9)) :]
        if random.random() < 0.1:
            del backends[choose(("chat", "embedder"))]
    routes = {
        model: ModelRoute(
            model,
            ROLES[model],
            tuple(found),
            created=1,
            is_starting=not found and random.random() < 0.5,
            dimension=choose((None, 2, 3)),
        )
        for model, found in backends.items()
    }
    return RoutingTable(
        version,
        "rag",
        {alias: routes[model] for alias, model in ALIASES.items() if model in routes},
        suspended=random.random() < 0.03 and version > 1,
        scheduling=_scheduling(random),
        source="cloud" if random.random() < 0.03 else "auto",
        cloud=_cloud(random) if random.random() < 0.4 else None,
    )


def _backend(kind: str, number: int, random: Random, limit: int, version: int) -> Backend:
    is_llm = kind == "llm"
    found = backend(
        (_LLM_PORT if is_llm else _EMBEDDER_PORT) + number,
        instance=f"{kind}-{number}",
        role="llm" if is_llm else "embedding",
        engine="vllm" if is_llm or number % 2 else "tei",
        models=("chat",) if is_llm else ("embedder",),
        limit=limit,
        device=random.choice(("", f"gpu-{number}")),
        price_per_hour=random.choice((0.0, 1.0, 4.0)),
    )
    return replace(found, uid=random.choice(("uid", "uid", "uid", f"uid-{version}")))


def _scheduling(random: Random) -> SchedulingSettings:
    choose = random.choice
    return SchedulingSettings(
        policy=choose((*_POLICIES, *("hybrid",) * 5)),
        llm_policy=choose(_POLICIES[:5]),
        embedding_batch_size=choose((1, 4, 32, 32)),
        embedding_batch_tokens=choose((25, 16384, 16384)),
        max_embedding_wait_s=choose((0.0, 0.005, 0.2)),
        embedding_priority=choose(("high", "normal", "low", "adaptive")),
        hybrid_instance_ratio=choose((0.0, 0.3, 0.7, 1.0)),
        queue=QueueLimits(choose((0, 2, 20, 20)), choose((0.5, 3.0))),
    )


def _cloud(random: Random) -> CloudTarget:
    models = {"chat": "their-chat", "embedder": "their-embedder"}
    if random.random() < 0.2:
        del models["embedder"]
    return CloudTarget(
        f"http://127.0.0.1:{_PROVIDER_PORT}/v1",
        models,
        frozenset(random.choice((("overloaded",), ("absent", "starting", "overloaded")))),
        frozenset(random.choice(((), ("embedder",)))),
    )
