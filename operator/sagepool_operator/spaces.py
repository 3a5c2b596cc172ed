"""In which embedding space a pool serves each model, and who is in another one. Pure.

Vectors of two spaces must not be compared, so all instances that get requests for a model share
one space. The first that is seen is recorded in the pool's status, where it outlives operators and
pods. It stands for as long as the spec names the same weights, or an instance in that space is
left: so a rollout to other weights under the same name cannot serve two spaces at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sagepool_crds.pool import InferencePool
from sagepool_crds.space import EmbeddingSpace, ModelSpace
from sagepool_engines.space import tell_apart


@dataclass(frozen=True, slots=True)
class Speaker:
    """An instance whose engine has shown its embedding space."""

    instance: str
    models: tuple[str, ...]
    """Names under which it serves embeddings."""
    space: EmbeddingSpace
    source: str
    """Of its weights; empty when not known."""
    is_ready: bool
    """It gets requests."""


def agree_on_spaces(pool: InferencePool, speakers: Sequence[Speaker]) -> dict[str, ModelSpace]:
    """The space of each embedding model of the pool of which something is known."""
    recorded = {m.name: m.space for m in pool.status.models if m.space is not None}
    sources = dict(_sources(pool))
    found = {}
    for model in dict.fromkeys((*sources, *(m for s in speakers for m in s.models))):
        mine = [speaker for speaker in speakers if model in speaker.models]
        space = _agree(recorded.get(model), sources.get(model, ""), mine)
        if space is not None:
            found[model] = space
    return found


def tell_strange(speaker: Speaker, agreed: Mapping[str, ModelSpace]) -> str:
    """How the instance's space differs from that of its pool, and the way out; empty: it does not.

    A space that the speaker itself has just brought in differs from itself in nothing.
    """
    for model in speaker.models:
        space = agreed.get(model)
        difference = tell_apart(speaker.space, space) if space is not None else ""
        if space is not None and difference:
            return (
                f"model {model} is in another embedding space than the one that the pool serves: "
                f"{difference}; vectors of the two must not be compared: {_advise(speaker, space)}"
            )
    return ""


def _agree(
    recorded: ModelSpace | None, source: str, speakers: Sequence[Speaker]
) -> ModelSpace | None:
    if recorded is not None:
        carriers = [s for s in speakers if not tell_apart(s.space, recorded)]
        if source and any(s.source == source for s in carriers):
            return recorded.model_copy(update={"source": source})
        if carriers or not speakers or recorded.source == source:
            return recorded
    first = min(speakers, key=lambda s: (not s.is_ready, s.instance), default=None)
    if first is None:
        return None
    return ModelSpace(**first.space.model_dump(), source=first.source)


def _sources(pool: InferencePool) -> Iterator[tuple[str, str]]:
    """Embedding models of the groups and where their weights come from; the first of a name."""
    seen: set[str] = set()
    for group in pool.spec.groups:
        for role, model in group.served:
            if role == "embedding" and model.name not in seen:
                seen.add(model.name)
                yield model.name, model.source


def _advise(speaker: Speaker, space: ModelSpace) -> str:
    if speaker.source and speaker.source != space.source:
        was = f"(was {space.source}) " if space.source else ""
        return (
            f"serve {speaker.source} {was}under another model name; or, to go over to it, set the "
            "group's replicas to 0 and back, and embed everything anew"
        )
    return "correct the engine's model, image or arguments, or serve it under another model name"
