"""LoRA adapters of a group, and the room that its engines keep for them."""

from typing import Final, Literal, TypeAlias

from pydantic import Field

from sagepool_crds.fields import Name
from sagepool_crds.markers import says
from sagepool_crds.meta import ApiModel

MOST_ADAPTERS: Final = 16
"""Of one group; an engine keeps so many in memory."""

AdapterPhase: TypeAlias = Literal["Loading", "Loaded", "Failed"]


class Adapter(ApiModel):
    """A LoRA adapter of the group's model, served under a name of its own."""

    name: Name
    """Name that clients send as `model`."""
    uri: str = Field(
        max_length=512,
        pattern=r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
        r"|(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+)$",
        json_schema_extra=says(
            "write hf://OWNER/NAME, or the absolute path of a folder in the engine's container, "
            "for example /models/adapters/support"
        ),
    )
    """Where its weights are: `hf://OWNER/NAME` on the Hugging Face hub, or the absolute path of a
    folder in the engine's container; the pool's cache is mounted there at `/models`."""


class LoraRoom(ApiModel):
    """What an engine keeps free for adapters from its start on."""

    max_loras: int = Field(default=4, ge=1, le=MOST_ADAPTERS)
    """Adapters that vllm computes in one batch; each takes memory of the GPU. Requests for others
    wait for a later batch."""
    max_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Highest rank that an adapter may have."""


class AdapterStatus(ApiModel):
    """An adapter on one engine."""

    name: str
    """Its name."""
    uri: str = ""
    """Where its weights should be from."""
    phase: AdapterPhase
    """Whether the engine answers for it; requests for it are sent there while it is Loaded."""
    message: str = ""
    """What keeps it from being loaded, in the engine's words, and the next step."""
