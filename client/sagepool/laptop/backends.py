"""Engines that the command line names in place of the file's."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagepool.laptop.errors import WrongUse
from sagepool_crds import names
from sagepool_crds.admission import Refused, admit
from sagepool_crds.pool import Group, InferencePool

Backends = Mapping[str, str]
"""Role of a group, llm or embedding → the engine that runs it, or the URL of one that runs."""

_WORDS: Final = ("engine.args", "engine.embeddingArgs", "engine.env")
"""What is said to one engine, in its own words."""
_FETCHING: Final = tuple(
    f"{model}.{field}"
    for model in ("model", "embeddingModel")
    for field in ("revision", "tokenSecret", "credentialsSecret")
)
_MEMORY: Final = ("gpu.memory", "gpu.memoryFraction", "gpu.embeddingMemoryFraction")
_UNUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "vllm": _WORDS,
    "tei": (*_WORDS, *_MEMORY),
    "simulator": (*_WORDS, *_MEMORY, *_FETCHING),
}
"""By the engine that a group is moved to, the fields that go unused."""


def backend_of(group: Group, backends: Backends) -> str:
    """What takes the place of the group's engine; empty: nothing. Who serves two models takes
    what is given for both roles."""
    if group.role != "llm_embedding":
        return backends.get(group.role, "")
    chat, embedding = backends.get("llm", ""), backends.get("embedding", "")
    return chat if chat == embedding else ""


def unused_backends(pool: InferencePool, backends: Backends) -> list[str]:
    """Roles for which a backend is given that no group takes."""
    used = {
        role
        for group in pool.spec.groups
        if backend_of(group, backends)
        for role in (("llm", "embedding") if group.role == "llm_embedding" else (group.role,))
    }
    return sorted(backends.keys() - used)


def backend_flag(group: Group) -> str:
    """The option that takes the place of the group's engine."""
    return "--embedding-backend" if group.role == "embedding" else "--llm-backend"


def groups_at_urls(pool: InferencePool, backends: Backends) -> Iterator[tuple[Group, str]]:
    """Groups whose engine runs elsewhere, and where."""
    for group in pool.spec.groups:
        backend = backend_of(group, backends)
        if "://" in backend:
            yield group, backend


def move_groups(pool: InferencePool, backends: Backends) -> InferencePool:
    """The pool with the engines that run its groups here, as a cluster would take it.

    What only a group's former engine takes goes unused: its words, how it fetches its model, its
    share of a GPU's memory.

    Raises:
        WrongUse: the new engine lacks something, as a model to load.
    """
    moved, flags = [], set()
    for group in pool.spec.groups:
        backend = backend_of(group, backends)
        obj = group.to_object()
        if backend and "://" not in backend and backend != group.engine.type:
            flags.add(backend_flag(group))
            obj = _moved(obj, backend)
        moved.append(obj)
    if not flags:
        return pool
    try:
        admitted = admit(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.POOL_KIND,
                "metadata": {"name": pool.metadata.name, "namespace": pool.metadata.namespace},
                "spec": {**pool.spec.to_object(), "groups": moved},
            }
        )
    except Refused as refused:
        raise WrongUse(f"{', '.join(sorted(flags))}: {refused}") from None
    return InferencePool.from_object(admitted)


def _moved(group: dict[str, Any], engine: str) -> dict[str, Any]:
    kept = {
        part: {
            name: value for name, value in fields.items() if f"{part}.{name}" not in _UNUSED[engine]
        }
        for part, fields in group.items()
        if isinstance(fields, dict)
    }
    return {**group, **kept, "engine": {**kept["engine"], "type": engine}}
