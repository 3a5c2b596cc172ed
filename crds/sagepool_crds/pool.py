"""InferencePool: the chat and embedding engines that a person wants behind one address."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema

from sagepool_crds.cache import Cache, ModelCache
from sagepool_crds.cloud import Cloud, Source
from sagepool_crds.environment import EnvVar
from sagepool_crds.fields import LabelName, Port, Price, Quantity
from sagepool_crds.group_rules import GROUP_RULES, NAMES
from sagepool_crds.lora import MOST_ADAPTERS, Adapter, LoraRoom
from sagepool_crds.markers import Rule, list_map, rules, says
from sagepool_crds.meta import ApiModel, Condition, KubernetesObject
from sagepool_crds.model import Model
from sagepool_crds.pod_template import patch_schema
from sagepool_crds.rollout import Rollout
from sagepool_crds.router import Router
from sagepool_crds.scaling import Scaling
from sagepool_crds.scheduling import Scheduling
from sagepool_crds.space import ModelSpace

Role: TypeAlias = Literal["llm", "embedding"]
"""What one address answers, and in what a model's name is served."""
GroupRole: TypeAlias = Literal["llm", "embedding", "llm_embedding"]
EngineType: TypeAlias = Literal["vllm", "tei", "simulator"]


class Engine(ApiModel):
    """The program that serves a group's model."""

    type: EngineType
    """vllm serves chat and embeddings, tei embeddings; simulator needs neither GPU nor weights."""
    image: str | None = Field(default=None, min_length=1, max_length=512)
    """Container image. Left out: the operator's default for the type, kept for this group until
    the group changes."""
    args: list[Annotated[str, StringConstraints(max_length=2048)]] = Field(
        default_factory=list, max_length=64
    )
    """Further arguments, after those that the operator gives; a flag given here wins. With role
    llm_embedding on vllm, of the process for chat."""
    embedding_args: list[Annotated[str, StringConstraints(max_length=2048)]] = Field(
        default_factory=list, max_length=64
    )
    """The same of the process for embeddings; with role llm_embedding on vllm only."""
    env: list[EnvVar] = Field(
        default_factory=list, max_length=64, json_schema_extra=list_map("name")
    )
    """Further environment variables."""
    port: Port = 8000
    """Port the engine listens on in its pod. With role llm_embedding on vllm the process for
    embeddings listens on the next one."""


class Gpu(ApiModel):
    """The GPUs of one engine pod."""

    count: int = Field(default=1, ge=1, le=16)
    """How many; vllm splits the model over them (tensor parallel)."""
    resource_name: str = Field(
        default="nvidia.com/gpu",
        min_length=3,
        max_length=253,
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        json_schema_extra=says(
            "write the resource's full name, for example nvidia.com/gpu or amd.com/gpu"
        ),
    )
    """The extended resource that the device plugin offers."""
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the GPU's memory that vllm may take. Left out: vllm's own default; with role
    llm_embedding 0.9, of both processes together."""
    embedding_memory_fraction: float | None = Field(default=None, gt=0, lt=1)
    """How much of the GPU's memory, out of memoryFraction, the process for embeddings takes; the
    one for chat takes the rest. With role llm_embedding on vllm only. Left out: 0.2."""
    memory: Quantity | None = None
    """Memory of one GPU, for example 80Gi: with it the condition ModelsFit tells, before an engine
    has tried, whether vllm finds room for the model."""
    price_per_hour: Price | None = None
    """What one GPU costs an hour, in the currency of your choice: for policy cost_optimized."""


class Group(ApiModel):
    """Engines of one kind that serve one model."""

    model_config = ConfigDict(json_schema_extra=rules(*GROUP_RULES))

    name: LabelName
    """Unique in the pool; part of the names of its Deployment and pods."""
    role: GroupRole
    """What its engines answer: chat and completions (llm), embeddings, rerank and score
    (embedding), or both on one GPU (llm_embedding)."""
    engine: Engine
    """The program that serves the model."""
    model: Model
    """What it serves."""
    embedding_model: Model | None = None
    """What a group of role llm_embedding serves besides, for embeddings: on vllm by a second
    process in the same container."""
    adapters: list[Adapter] = Field(
        default_factory=list, max_length=MOST_ADAPTERS, json_schema_extra=list_map("name")
    )
    """LoRA adapters of the chat model, loaded and unloaded while engines run. The first one of a
    group without `lora` makes room for all, with new pods."""
    lora: LoraRoom | None = None
    """Room for adapters. Left out: none is kept while there are no adapters."""
    gpu: Gpu | None = None
    """Left out: the pods ask for no GPU."""
    replicas: int | None = Field(default=None, ge=0, le=1024)
    """Number of engine pods. Left out, without scaling: 1."""
    scaling: Scaling | None = None
    """Instead of replicas: how many engine pods there are follows what is asked of them."""
    max_concurrency: int = Field(default=256, ge=1, le=65536)
    """Requests that one router keeps in flight on one engine at most; more wait in its queue."""
    rollout: Rollout = Field(default_factory=Rollout)
    """How its pods are replaced, and how they leave."""
    pod_template: Annotated[dict[str, Any], WithJsonSchema(patch_schema())] | None = None
    """A strategic-merge patch over the pod template that the operator builds: for what no other
    field says. A change of it rolls the group."""

    @property
    def lora_room(self) -> LoraRoom | None:
        """The room that its engines keep for adapters; None where they take none."""
        return self.lora or (LoraRoom() if self.adapters else None)

    @property
    def served(self) -> tuple[tuple[Role, Model], ...]:
        """Each model with the role in which its names are served."""
        if self.role == "embedding":
            return (("embedding", self.model),)
        second = self.embedding_model
        return (("llm", self.model), *((("embedding", second),) if second is not None else ()))


class InferencePoolSpec(ApiModel):
    """What a person wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                # Every name that a serves as llm against every one that b serves as embedding.
                "self.groups.all(a, a.role == 'embedding' || self.groups.all(b, a.name == b.name "
                f"|| ((b.role != 'embedding' || !sets.intersects({NAMES.format('a.model')}, "
                f"{NAMES.format('b.model')})) && (!has(b.embeddingModel) || !sets.intersects("
                f"{NAMES.format('a.model')}, {NAMES.format('b.embeddingModel')})))))",
                "two groups with different roles serve the same model name or alias: "
                "rename it in one of them",
                field_path=".groups",
            ),
            Rule(
                # The names are listed once for all comparisons: the server counts what it does.
                "self.groups.all(a, a.adapters.size() == 0 || "
                "[a.adapters.map(adapter, adapter.name)].all(names, self.groups.all(b, "
                f"!sets.intersects(names, {NAMES.format('b.model')}) && "
                "(!has(b.embeddingModel) || "
                f"!sets.intersects(names, {NAMES.format('b.embeddingModel')})))))",
                "an adapter has the name or alias of a model: rename it, so that a name means one "
                "model",
                field_path=".groups",
            ),
            Rule(
                "(has(self.cache) && self.cache.type != 'none') || self.groups.all(g, "
                "g.engine.type == 'simulator' || "
                "((!has(g.model.uri) || !g.model.uri.startsWith('s3://')) && "
                "(!has(g.embeddingModel) || !has(g.embeddingModel.uri) || "
                "!g.embeddingModel.uri.startsWith('s3://'))))",
                "a model of a bucket (s3://) is fetched into the pool's cache: fill in cache, for "
                "example type: pvc with a size",
                field_path=".cache",
            ),
            Rule(
                # A cache fetches each model with its own. Adapters come with that of `model`.
                "(has(self.cache) && self.cache.type != 'none') || self.groups.all(g, "
                "!has(g.embeddingModel) || !has(g.model.tokenSecret) || "
                "!has(g.embeddingModel.tokenSecret) || "
                "(g.model.tokenSecret.name == g.embeddingModel.tokenSecret.name && "
                "g.model.tokenSecret.key == g.embeddingModel.tokenSecret.key))",
                "two processes of one container have one token for the hub: name the same "
                "tokenSecret in model and embeddingModel, or fill in cache, which fetches each "
                "model with its own",
                field_path=".groups",
            ),
            Rule(
                "self.source != 'cloud' || has(self.cloud)",
                "source cloud needs a provider: fill in cloud, or set source to auto or local",
                field_path=".source",
            ),
        )
    )

    source: Source = "auto"
    """Who answers: the pool's engines (local), the provider (cloud; no engine runs), or the engines
    and, where cloud.when says so, the provider (auto). Without cloud, auto is local."""
    suspend: bool = False
    """True: no engine runs; the address stays and answers 503."""
    groups: list[Group] = Field(min_length=1, max_length=32, json_schema_extra=list_map("name"))
    """Engines by kind and model."""
    scheduling: Scheduling = Field(default_factory=Scheduling)
    """How requests are placed on engines."""
    router: Router = Field(default_factory=Router)
    """The endpoint in front of them."""
    cloud: Cloud | None = None
    """A provider that answers where the pool's own engines do not."""
    cache: Cache | None = None
    """A volume for the models. Left out: each engine pod fetches its model for itself."""


class ModelStatus(ApiModel):
    """A model that the pool serves."""

    name: str
    """The model's name."""
    role: Role
    """What it answers."""
    ready: int
    """Instances that can answer for it now."""
    desired: int
    """Instances that should."""
    source: Literal["local", "cloud", ""] = ""
    """Who answers for it: instances of the pool, the provider, or nobody."""
    space: ModelSpace | None = None
    """The embedding space of all instances that serve it: the one first seen. An instance in
    another space gets no requests."""
    cache: ModelCache | None = None
    """How far it is on its way into the cache; left out where it is not cached."""


class GroupStatus(ApiModel):
    """The state of a group."""

    name: str
    """The group's name."""
    desired: int
    """Engine pods that should run."""
    ready: int
    """Engine pods that answer."""
    updated: int
    """Pods built from the present spec."""
    message: str = ""
    """What is wrong, and the next step; empty when nothing is."""


class InferencePoolStatus(ApiModel):
    """What is."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    conditions: list[Condition] = Field(
        default_factory=list, max_length=16, json_schema_extra=list_map("type")
    )
    """Ready, Progressing, RouterReady, Scheduled and, where requests may go to a provider,
    CloudReachable; where a group says how much memory its GPUs have, ModelsFit; where models are
    cached, ModelsCached; where groups have adapters, AdaptersLoaded."""
    endpoint: str = ""
    """Base URL for OpenAI clients in the cluster."""
    models: list[ModelStatus] = Field(default_factory=list, json_schema_extra=list_map("name"))
    """Every model that the pool serves."""
    groups: list[GroupStatus] = Field(default_factory=list, json_schema_extra=list_map("name"))
    """Every group of the spec."""
    replicas: int = 0
    """Instances that should run, engines elsewhere included."""
    ready_replicas: int = 0
    """Instances that answer."""
    ready: str = ""
    """readyReplicas/replicas, for people."""
    model_names: str = ""
    """The names of the models, for people."""


class InferencePool(KubernetesObject):
    """Chat and embedding engines behind one OpenAI-compatible address."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.metadata.name.size() <= 40 && "
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name becomes part of Service and pod names: use at most 40 lower-case "
                "letters, digits and hyphens, with a letter first",
            )
        )
    )

    spec: InferencePoolSpec
    status: InferencePoolStatus = Field(default_factory=InferencePoolStatus)
