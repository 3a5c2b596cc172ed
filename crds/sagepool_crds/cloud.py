"""A provider that answers where the pool's own engines do not."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints

from sagepool_crds.fields import URL_PATTERN, KeyReference, Name, Price
from sagepool_crds.markers import Rule, list_set, rules, says
from sagepool_crds.meta import ApiModel

Source: TypeAlias = Literal["auto", "local", "cloud"]
When: TypeAlias = Literal["absent", "starting", "overloaded"]

_ALWAYS: Final[Sequence[When]] = ("absent", "starting", "overloaded")


class TokenPrices(ApiModel):
    """What the provider takes for a million tokens."""

    input: Price | None = None
    """Tokens of prompts and of texts to embed."""
    output: Price | None = None
    """Tokens of answers."""


class Cloud(ApiModel):
    """An OpenAI-compatible provider, and which models it may answer for."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.sameEmbeddingSpace.all(name, name in self.models)",
                "sameEmbeddingSpace names a model that models does not map: map it there, or "
                "remove it here",
                field_path=".sameEmbeddingSpace",
            )
        )
    )

    base_url: str = Field(
        min_length=1,
        max_length=512,
        pattern=URL_PATTERN,
        json_schema_extra=says(
            "write the provider's address with scheme and path, without a query, for example "
            "https://api.example.com/v1"
        ),
    )
    """Address that the provider's OpenAI-compatible routes are below, `/v1` included."""
    api_key_secret: KeyReference
    """Secret with the provider's key. Routers mount it; the operator never reads it."""
    # A map's keys have no schema: a name that no client can send is never asked for.
    models: Mapping[str, Annotated[str, StringConstraints(min_length=1, max_length=128)]] = Field(
        min_length=1, max_length=64
    )
    """Names of the pool's models (no aliases), each with the provider's name for what answers in
    its place."""
    when: list[When] = Field(
        default_factory=lambda: list(_ALWAYS),
        max_length=3,
        json_schema_extra=list_set(),
    )
    """When source is auto, the provider answers while a model has no engine at all (absent), while
    its engines start, and while they are full (overloaded)."""
    same_embedding_space: list[Name] = Field(
        default_factory=list, max_length=64, json_schema_extra=list_set()
    )
    """Embedding models whose provider model is the very same: only these are sent to the provider
    in source auto, since vectors of different models cannot be compared."""
    price_per_million_tokens: TokenPrices | None = None
    """What the provider takes, in the currency of the groups' prices."""
