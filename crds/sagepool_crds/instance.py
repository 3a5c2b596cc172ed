"""InferenceInstance: one engine, made by the operator or running elsewhere, and its live state."""

from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints

from sagepool_crds.fields import URL_PATTERN, DeviceName, LabelName, Name, Price
from sagepool_crds.lora import AdapterStatus
from sagepool_crds.markers import Rule, list_map, list_set, rules, says
from sagepool_crds.meta import ApiModel, Condition, KubernetesObject, Time
from sagepool_crds.pool import EngineType, Role
from sagepool_crds.space import EmbeddingSpace

Phase: TypeAlias = Literal["Pending", "Downloading", "Loading", "Ready", "Draining", "Failed"]

Url: TypeAlias = Annotated[
    str,
    StringConstraints(max_length=512, pattern=URL_PATTERN),
    Field(
        json_schema_extra=says(
            "write the engine's address with scheme and port, without /v1 and without a query, "
            "for example http://10.0.0.7:8000"
        )
    ),
]


class Endpoint(ApiModel):
    """An address of the engine and what it answers there."""

    role: Role
    """What it answers there."""
    url: Url | None = None
    """Base address, without /v1. The operator leaves it out while a pod has no address yet."""
    models: list[Name] = Field(min_length=1, max_length=32, json_schema_extra=list_set())
    """Model names it answers for."""


class InferenceInstanceSpec(ApiModel):
    """Which engine it is and how it may be used."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.group) || self.endpoints.all(e, has(e.url))",
                "url is missing: write the engine's address, for example http://10.0.0.7:8000",
                field_path=".endpoints",
            ),
            Rule(
                "self.poolRef == oldSelf.poolRef",
                "poolRef cannot change: delete the instance and make it anew for the other pool",
                field_path=".poolRef",
            ),
        )
    )

    pool_ref: str = Field(min_length=1, max_length=40)
    """Name of the InferencePool in the same namespace that it belongs to."""
    group: LabelName | None = None
    """The pool's group; only on instances that the operator made."""
    engine: EngineType
    """Which program it is: how it is probed and how its errors are read."""
    endpoints: list[Endpoint] = Field(
        min_length=1, max_length=2, json_schema_extra=list_map("role")
    )
    """Where it answers, an endpoint a role."""
    max_concurrency: int = Field(default=256, ge=1, le=65536)
    """Requests that one router keeps in flight on it."""
    drain: bool = False
    """True: no new request is sent to it; those under way finish."""
    price_per_hour: Price | None = None
    """What it costs an hour, all of its GPUs together, in the currency of your choice."""
    device: DeviceName | None = None
    """Name for the GPU that it runs on, when engines share one: instances of a pool with the same
    device share it, so that chat on one is protected from embeddings on the other. The operator
    sets it on none; endpoints of one instance share a GPU anyway."""


class Load(ApiModel):
    """The engine's own figures, quantised so that small changes write nothing."""

    running: int = Field(ge=0)
    """Requests (for embeddings: texts) that it computes."""
    waiting: int = Field(ge=0)
    """Requests that wait in it."""
    kv_cache_usage: float = Field(ge=0, le=1)
    """Share of the key-value cache in use, in steps of 0.05."""
    sampled_at: Time
    """When the engine said so."""


class ModelFacts(ApiModel):
    """What the engine says about its model."""

    dimension: int | None = Field(default=None, ge=1)
    """Length of an embedding."""
    norm: float | None = Field(default=None, gt=0)
    """Euclidean length of the probe text's embedding, to three digits."""
    fingerprint: str | None = Field(default=None, max_length=128)
    """Direction of the probe text's embedding, as a sketch of a fixed size."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and answer together, in tokens."""

    @property
    def space(self) -> EmbeddingSpace | None:
        """The embedding space; None when it is not known."""
        if self.dimension is None or self.norm is None or self.fingerprint is None:
            return None
        return EmbeddingSpace(
            dimension=self.dimension, norm=self.norm, fingerprint=self.fingerprint
        )


class InferenceInstanceStatus(ApiModel):
    """What the operator found."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    phase: Phase = "Pending"
    """A summary of the conditions, for people."""
    conditions: list[Condition] = Field(
        default_factory=list, max_length=16, json_schema_extra=list_map("type")
    )
    """EngineReady, Ready, of an engine pod Routable and, where it has adapters, AdaptersLoaded."""
    load: Load | None = None
    """The engine's own figures."""
    model: ModelFacts | None = None
    """What the engine says about its model."""
    adapters: list[AdapterStatus] = Field(
        default_factory=list, max_length=64, json_schema_extra=list_map("name")
    )
    """The adapters that it should have; none while the engine does not answer."""
    message: str = ""
    """What it waits for or what is wrong, in the words of the pod or the scheduler."""
    roles: str = ""
    """The roles of its endpoints, for people."""
    model_names: str = ""
    """The models of its endpoints, for people."""


class InferenceInstance(KubernetesObject):
    """One engine of a pool and its live state."""

    spec: InferenceInstanceSpec
    status: InferenceInstanceStatus = Field(default_factory=InferenceInstanceStatus)
