"""What a server serves, by kind. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sagepool.answers import WireModel
from sagepool.endpoints import Kind


@dataclass(frozen=True, slots=True)
class Served:
    """What a server said that it serves."""

    models: Mapping[Kind, Sequence[str]]
    """By kind; those that can answer now first. A kind that is absent is not served."""
    takes_any_name: bool = False
    """It has one model and does not look at the name (Text Embeddings Inference)."""
    owners: frozenset[str] = field(default_factory=frozenset)
    """What its list of models says as `owned_by`."""

    def model_for(self, kind: Kind, wanted: str | None) -> str | None:
        """The model for requests of a kind that name none; None: it does not serve `wanted`."""
        names = self.models.get(kind, ())
        if wanted is None or self.takes_any_name:
            return names[0] if names else None
        return wanted if wanted in names else None

    def __str__(self) -> str:
        """For people."""
        told = [f"{', '.join(names)} ({kind})" for kind, names in self.models.items() if names]
        return "; ".join(told) or "no model for chat or embeddings"


def models_of(listed: Sequence[WireModel], kind: Kind) -> list[str]:
    """The models of a list that answer requests of a kind, those that can do so now first.

    A list that tells no roles is of one kind, whichever is asked for.
    """
    fitting = [m for m in listed if m.role in (None, kind, "llm_embedding")]
    return [m.id for m in sorted(fitting, key=lambda m: not m.ready)]
