"""An embedding space, as far as one vector of it tells."""

from pydantic import Field

from sagepool_crds.meta import ApiModel


class EmbeddingSpace(ApiModel):
    """What an engine makes of the probe text: vectors of two spaces must not be compared."""

    dimension: int = Field(ge=1)
    """Length of an embedding."""
    norm: float = Field(gt=0)
    """Euclidean length of the probe text's embedding, to three digits."""
    fingerprint: str = Field(max_length=128)
    """Direction of the probe text's embedding, as a sketch of a fixed size."""


class ModelSpace(EmbeddingSpace):
    """The space in which a pool serves a model."""

    source: str = Field(default="", max_length=1024)
    """Uri and revision of the weights that it was first seen with; empty when not known."""
