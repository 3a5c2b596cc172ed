"""What the two kinds share: the pydantic base, object metadata and conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

ConditionStatus: TypeAlias = Literal["True", "False", "Unknown"]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time: TypeAlias = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]
"""A moment as Kubernetes writes it: RFC 3339, UTC, whole seconds."""


class ApiModel(BaseModel):
    """Base of everything in the API: camelCase on the wire, frozen.

    Unknown fields are ignored on reading, so that a router reads the objects of a newer version;
    what people write is refused by the API server, or by `from_manifest`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_object(self) -> dict[str, Any]:
        """The JSON object that goes to the API server: camelCase, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that sagepool reads; the rest is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class PoolKey:
    """An InferencePool by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """`NAMESPACE/NAME`, as it is written in logs and on command lines."""
        return f"{self.namespace}/{self.name}"


class KubernetesObject(BaseModel):
    """An object of one of the two kinds as the API server sends it."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )

    metadata: ObjectMeta

    @classmethod
    def from_object(cls, data: Mapping[str, Any]) -> Self:
        """Read an API object.

        Raises:
            pydantic.ValidationError: the object does not follow the schema.
        """
        return cls.model_validate(data)

    @classmethod
    def from_manifest(cls, data: Mapping[str, Any]) -> Self:
        """Read what a person wrote: as `from_object`, but an unknown field of the spec is refused.

        Raises:
            pydantic.ValidationError: the object does not follow the schema.
        """
        read = cls.from_object(data)
        spec: type[BaseModel] = type(getattr(read, "spec"))  # noqa: B009 - subclasses have one
        spec.model_validate(data["spec"], extra="forbid")
        return read


class Condition(ApiModel):
    """A Kubernetes condition (metav1.Condition)."""

    type: str = Field(max_length=64)
    """What it speaks of."""
    status: ConditionStatus
    """Whether it holds."""
    reason: str = Field(max_length=64)
    """Why, in one CamelCase word, for programs."""
    message: str = Field(default="", max_length=4096)
    """Why, and what to do, for people."""
    last_transition_time: Time
    """When the status last flipped."""
    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that it speaks of."""


def set_condition(conditions: Sequence[Condition], new: Condition) -> tuple[Condition, ...]:
    """Put `new` among `conditions`, in order of type.

    The transition time moves only when the status flips, as Kubernetes' API conventions ask.
    """
    old = find_condition(conditions, new.type)
    if old is not None and old.status == new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    others = [c for c in conditions if c.type != new.type]
    return tuple(sorted([*others, new], key=lambda c: c.type))


def find_condition(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Sequence[Condition], type_: str) -> bool:
    """Whether the condition of that type is there and "True"."""
    condition = find_condition(conditions, type_)
    return condition is not None and condition.status == "True"
