"""Every field of a pool's spec: changed to another value it has its effect, changed back none is
left.

The fields are those of the CRD's schema: one that is added there and not here fails the tests.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from crd_objects import full_pool_object
from kube_ownership import copied, leaves
from operator_jobs import finish
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_crds.admission import Refused, admit
from sagepool_crds.crd import build_crds
from sagepool_crds.instance import InferenceInstance
from sagepool_kube.api import (
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    POOLS,
    SERVICES,
    Object,
)
from sagepool_operator.autoscaling.decision import Decision
from sagepool_operator.caching import claim_of
from sagepool_operator.fit import ModelConfig
from sagepool_operator.sizing import HubModel
from sagepool_operator.snapshot import CHILD_KINDS
from sagepool_router.table import build_table

ROUTER: Final = "rag-router"
THE_POOL: Final = f"{POOLS.kind} {KEY.name}"
REPLICAS: Final = names.REPLICAS_ANNOTATION


@dataclass(frozen=True)
class Change:
    """Another value of a field, and all that it changes."""

    path: str
    """Where the field stands in the full pool: names, and indices of lists."""
    value: Any
    effects: frozenset[str]
    """Parts of `look` that differ then."""


@dataclass(frozen=True)
class Refusal:
    """The API server does not let the field be changed, or set in this place."""

    path: str
    value: Any
    sentence: str
    """Part of what it says."""


def _(path: str, value: Any, *effects: str) -> Change:
    return Change(path, value, frozenset(effects))


OF_INSTANCES: Final = ("instances", "routing")
CONFIG: Final = ModelConfig(
    architectures=["Qwen2ForCausalLM"],
    hidden_size=3584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    vocab_size=152064,
    intermediate_size=18944,
    max_position_embeddings=32768,
)
"""Of Qwen2.5-7B."""
PODS: Final = ("pods",)
MORE_PODS: Final = ("number of pods", "status", "conditions", *OF_INSTANCES)
HUB: Final = ("models asked for", "conditions")
SCALER: Final = ("autoscaler",)
CACHE: Final = ("cache",)
ROUTING: Final = ("routing",)
SIMULATOR_LOADS_NOTHING: Final = "the simulator downloads nothing: remove embeddingModel.revision"

FIELDS: Final[Mapping[str, Change | Refusal]] = {
    "source": _("source", "local", "conditions", "provider asked", *ROUTING),
    "suspend": _(
        "suspend",
        True,
        "number of pods",
        "status",
        "conditions",
        "provider asked",
        "adapters",
        *OF_INSTANCES,
        *SCALER,
    ),
    "groups[].name": _(
        "groups.1.name",
        "other",
        "pods",
        "rollout",
        "number of pods",
        "budget",
        "status",
        *ROUTING,
        *SCALER,
    ),
    "groups[].role": Refusal("groups.2.role", "llm", "a group's role cannot change"),
    "groups[].engine.type": _("groups.2.engine.type", "tei", "pods", "rollout", *OF_INSTANCES),
    "groups[].engine.image": _("groups.0.engine.image", "other:1", *PODS),
    "groups[].engine.args[]": _(
        "groups.0.engine.args.0", "--max-model-len=4096", "conditions", *PODS
    ),
    "groups[].engine.env[].name": _("groups.0.engine.env.0.name", "Z", *PODS),
    "groups[].engine.env[].value": _("groups.0.engine.env.0.value", "2", *PODS),
    "groups[].engine.env[].valueFrom.secretKeyRef.name": _(
        "groups.0.engine.env.1.valueFrom.secretKeyRef.name", "other", *PODS
    ),
    "groups[].engine.env[].valueFrom.secretKeyRef.key": _(
        "groups.0.engine.env.1.valueFrom.secretKeyRef.key", "other", *PODS
    ),
    "groups[].engine.env[].valueFrom.configMapKeyRef.name": _(
        "groups.0.engine.env.2.valueFrom.configMapKeyRef.name", "other", *PODS
    ),
    "groups[].engine.env[].valueFrom.configMapKeyRef.key": _(
        "groups.0.engine.env.2.valueFrom.configMapKeyRef.key", "other", *PODS
    ),
    "groups[].engine.env[].valueFrom.fieldRef.fieldPath": _(
        "groups.0.engine.env.3.valueFrom.fieldRef.fieldPath", "metadata.name", *PODS
    ),
    "groups[].engine.port": _("groups.0.engine.port", 8001, *PODS, *OF_INSTANCES),
    "groups[].model.uri": _(
        "groups.0.model.uri", "hf://Qwen/Other", "models asked for", "conditions", *CACHE, *PODS
    ),
    "groups[].model.name": _("groups.0.model.name", "other", "status", *PODS, *OF_INSTANCES),
    "groups[].model.aliases[]": _("groups.0.model.aliases.0", "other", *ROUTING),
    "groups[].model.revision": _(
        "groups.0.model.revision", "next", "models asked for", "conditions", *CACHE, *PODS
    ),
    "groups[].model.tokenSecret.name": _("groups.0.model.tokenSecret.name", "other", *CACHE, *PODS),
    "groups[].model.tokenSecret.key": _("groups.0.model.tokenSecret.key", "other", *CACHE, *PODS),
    "groups[].model.credentialsSecret": Refusal(
        "groups.0.model.credentialsSecret", "s3", "credentialsSecret opens a bucket"
    ),
    "groups[].embeddingModel.credentialsSecret": Refusal(
        "groups.1.embeddingModel.credentialsSecret", "s3", SIMULATOR_LOADS_NOTHING
    ),
    "groups[].embeddingModel.uri": _("groups.1.embeddingModel.uri", "hf://BAAI/other", *PODS),
    "groups[].embeddingModel.name": _(
        "groups.1.embeddingModel.name", "other", "pods", "status", *ROUTING
    ),
    "groups[].embeddingModel.aliases[]": _("groups.1.embeddingModel.aliases.0", "other", *ROUTING),
    "groups[].embeddingModel.revision": _(
        "groups.3.embeddingModel.revision", "next", "conditions", *CACHE, *PODS
    ),
    "groups[].engine.embeddingArgs[]": _("groups.3.engine.embeddingArgs.0", "--seed=1", *PODS),
    "groups[].embeddingModel.tokenSecret.name": _(
        "groups.3.embeddingModel.tokenSecret.name", "other", *CACHE
    ),
    "groups[].embeddingModel.tokenSecret.key": _(
        "groups.3.embeddingModel.tokenSecret.key", "other", *CACHE
    ),
    "groups[].adapters[].name": _(
        "groups.0.adapters.0.name", "other", "adapters", "status", *ROUTING
    ),
    "groups[].adapters[].uri": _("groups.0.adapters.0.uri", "/models/other", "adapters"),
    "groups[].lora.maxLoras": _("groups.0.lora.maxLoras", 2, *PODS),
    "groups[].lora.maxRank": _("groups.0.lora.maxRank", 64, *PODS),
    "groups[].gpu.count": _("groups.0.gpu.count", 2, "conditions", *PODS, *OF_INSTANCES),
    "groups[].gpu.resourceName": _("groups.0.gpu.resourceName", "amd.com/gpu", *PODS),
    "groups[].gpu.memory": _("groups.0.gpu.memory", "12Gi", "conditions"),
    "groups[].gpu.memoryFraction": _("groups.0.gpu.memoryFraction", 0.1, "conditions", *PODS),
    "groups[].gpu.embeddingMemoryFraction": _("groups.3.gpu.embeddingMemoryFraction", 0.1, *PODS),
    "groups[].gpu.pricePerHour": _("groups.0.gpu.pricePerHour", 1, *OF_INSTANCES),
    "groups[].replicas": _(
        "groups.0.replicas", 3, "number of pods", "status", "conditions", *OF_INSTANCES
    ),
    "groups[].maxConcurrency": _("groups.0.maxConcurrency", 7, *OF_INSTANCES),
    "groups[].rollout.maxSurge": _("groups.0.rollout.maxSurge", 2, "rollout"),
    "groups[].rollout.maxUnavailable": _("groups.0.rollout.maxUnavailable", 2, "rollout", "budget"),
    "groups[].rollout.drainSeconds": _("groups.0.rollout.drainSeconds", 60, *PODS),
    # What it may hold, test_podpatch.py says.
    "groups[].podTemplate": _(
        "groups.0.podTemplate", {"spec": {"nodeSelector": {"a": "b"}}}, *CACHE, *PODS
    ),
    "groups[].scaling.mode": _(
        "groups.1.scaling",
        {"mode": "external"},
        "number of pods",
        "status",
        "conditions",
        *OF_INSTANCES,
        *SCALER,
    ),
    "groups[].scaling.minReplicas": _(
        "groups.1.scaling",
        {"minReplicas": 1, "maxReplicas": 4, "target": {"inFlight": 32}},
        *MORE_PODS,
        *SCALER,
    ),
    "groups[].scaling.maxReplicas": _("groups.1.scaling.maxReplicas", 5, *SCALER),
    "groups[].scaling.target.inFlight": _("groups.1.scaling.target.inFlight", 7, *SCALER),
    "groups[].scaling.target.queuedRequests": _(
        "groups.1.scaling.target.queuedRequests", 7, *SCALER
    ),
    "groups[].scaling.target.queuedTexts": _("groups.1.scaling.target.queuedTexts", 7, *SCALER),
    "groups[].scaling.target.ttftMs": _("groups.1.scaling.target.ttftMs", 7, *SCALER),
    "groups[].scaling.scaleDownAfterSeconds": _(
        "groups.1.scaling.scaleDownAfterSeconds", 10, *SCALER
    ),
    "groups[].scaling.idleToZeroSeconds": _("groups.1.scaling.idleToZeroSeconds", 10, *SCALER),
    "groups[].scaling.holdSeconds": _("groups.1.scaling.holdSeconds", 10, *ROUTING, *SCALER),
    "scheduling.policy": _("scheduling.policy", "fifo", *ROUTING),
    "scheduling.llmPolicy": _("scheduling.llmPolicy", "fifo", *ROUTING),
    "scheduling.embeddingBatchSize": _("scheduling.embeddingBatchSize", 7, *ROUTING),
    "scheduling.embeddingBatchTokens": _("scheduling.embeddingBatchTokens", 7, *ROUTING),
    "scheduling.maxEmbeddingWaitMs": _("scheduling.maxEmbeddingWaitMs", 7, *ROUTING),
    "scheduling.embeddingPriority": _("scheduling.embeddingPriority", "high", *ROUTING),
    "scheduling.hybridInstanceRatio": _("scheduling.hybridInstanceRatio", 0.2, *ROUTING),
    "scheduling.preferSpecializedInstances": _(
        "scheduling.preferSpecializedInstances", False, *ROUTING
    ),
    "scheduling.prefixAffinity": _("scheduling.prefixAffinity", False, *ROUTING),
    "scheduling.queue.maxRequests": _("scheduling.queue.maxRequests", 7, *ROUTING),
    "scheduling.queue.maxWaitSeconds": _("scheduling.queue.maxWaitSeconds", 7, *ROUTING),
    "scheduling.slo.chatTtftMs": _("scheduling.slo.chatTtftMs", 7, *ROUTING),
    "scheduling.slo.embeddingMs": _("scheduling.slo.embeddingMs", 7, *ROUTING),
    "router.replicas": _("router.replicas", 3, "number of router pods", "conditions", *ROUTING),
    "router.auth.apiKeysSecret": _("router.auth.apiKeysSecret", "other", "router pods"),
    "router.service.type": _("router.service.type", "NodePort", "service"),
    "router.service.port": _("router.service.port", 8080, "service", "status"),
    "router.resources.requests.*": _("router.resources.requests.cpu", "1", "router pods"),
    "router.resources.limits.*": _("router.resources.limits.memory", "2Gi", "router pods"),
    "cache.type": _(
        "cache", {"type": "hostPath", "path": "/mnt/models"}, "conditions", *CACHE, *PODS
    ),
    "cache.claimName": _("cache.claimName", "other", "conditions", *CACHE, *PODS),
    "cache.reclaimPolicy": _("cache.reclaimPolicy", "Retain", *CACHE),
    "cache.size": _("cache.size", "300Gi", *CACHE),
    "cache.storageClassName": Refusal(
        "cache.storageClassName", "slow", "a claim's storageClassName cannot change"
    ),
    "cache.accessMode": Refusal(
        "cache.accessMode", "ReadWriteOnce", "a claim's accessMode cannot change"
    ),
    "cache.path": Refusal("cache.path", "/mnt/models", "path is the folder of type hostPath"),
    "cloud.baseUrl": _(
        "cloud.baseUrl", "https://other.example.com/v1", "conditions", "provider asked", *ROUTING
    ),
    "cloud.apiKeySecret.name": _("cloud.apiKeySecret.name", "other", "router pods"),
    "cloud.apiKeySecret.key": _("cloud.apiKeySecret.key", "other", "router pods"),
    "cloud.models.*": _("cloud.models.bge", "other", *ROUTING),
    "cloud.when[]": _("cloud.when.0", "starting", *ROUTING),
    "cloud.sameEmbeddingSpace[]": _("cloud.sameEmbeddingSpace.0", "qwen", *ROUTING),
    "cloud.pricePerMillionTokens.input": _("cloud.pricePerMillionTokens.input", 0.5, *ROUTING),
    "cloud.pricePerMillionTokens.output": _("cloud.pricePerMillionTokens.output", 0.5, *ROUTING),
}


def pool_object() -> dict[str, Any]:
    """The full pool, a group whose engine has no settings that another engine lacks, and one of two
    processes."""
    plain_group = {
        "name": "embed",
        "role": "embedding",
        "engine": {"type": "vllm"},
        "model": {"name": "gte", "uri": "hf://BAAI/gte"},
        "replicas": 1,
    }
    two_processes = {
        "name": "pair",
        "role": "llm_embedding",
        "engine": {"type": "vllm", "embeddingArgs": ["--max-model-len=512"]},
        "model": {"name": "tiny", "uri": "hf://Qwen/Qwen2.5-0.5B-Instruct"},
        "embeddingModel": {
            "name": "bge-small",
            "uri": "hf://BAAI/bge-small-en-v1.5",
            "revision": "main",
            "tokenSecret": {"name": "hub", "key": "k"},
        },
        "gpu": {"count": 1, "memoryFraction": 0.8, "embeddingMemoryFraction": 0.25},
        "replicas": 1,
    }
    pool = full_pool_object()
    groups = [*pool["spec"]["groups"], plain_group, two_processes]
    return {**pool, "spec": {**pool["spec"], "groups": groups}}


def schema_leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The fields that hold a value, `[]` for an item of a list and `*` for a key of a map."""
    if path == "groups[].podTemplate":
        yield path
    elif "properties" in schema:
        for name, child in schema["properties"].items():
            yield from schema_leaves(child, f"{path}.{name}" if path else name)
    elif "additionalProperties" in schema:
        yield from schema_leaves(schema["additionalProperties"], f"{path}.*")
    elif "items" in schema:
        yield from schema_leaves(schema["items"], f"{path}[]")
    else:
        yield path


def pool_leaves() -> set[str]:
    version = build_crds()[names.POOL_PLURAL]["spec"]["versions"][0]
    return set(schema_leaves(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))


def changed(spec: Object, path: str, value: Any) -> dict[str, Any]:
    """The spec with another value at a path."""
    new: dict[str, Any] = copied(spec)
    node: Any = new
    *steps, last = [int(s) if s.isdecimal() else s for s in path.split(".")]
    for step in steps:
        node = node[step]
    node[last] = value
    return new


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return sorted((key, _sorted(item)) for key, item in value.items())
    return value


def plain(value: object) -> str:
    """Without what only says which pod it is: its name, address and uid."""
    text = repr(_sorted(value))
    text = re.sub(r"rag-(chat|mixed|embed|pair|router)-[0-9a-f]{8}-\d+", r"<pod of \1>", text)
    return re.sub(r"uid-\d+|10\.1\.\d+\.\d+", "<id>", text)


def objects(world: World) -> dict[str, dict[str, Any]]:
    """The pool, all that it has, and their ids; without the count of changes."""
    found = {}
    for kind in (POOLS, *CHILD_KINDS):
        for one in world.kube.all(kind):
            for count in ("resourceVersion", "generation"):
                del one["metadata"][count]
            if kind == JOBS:  # what can never change is made anew
                del one["metadata"]["uid"]
            found[f"{kind.kind} {one['metadata']['name']}"] = one
    status = found[THE_POOL]["status"]
    for observed in (status, *status["conditions"]):
        del observed["observedGeneration"]
    for one in found.values():
        one.get("status", {}).pop("observedGeneration", None)
    return found


def claims(world: World) -> list[dict[str, Any]]:
    """Claims that the pool uses: those that it has used are left behind."""
    used = {claim_of(world.pool)}
    return [
        one for one in world.kube.all(PERSISTENT_VOLUME_CLAIMS) if one["metadata"]["name"] in used
    ]


def look(world: World) -> dict[str, str]:
    """All that the operator and the routers make of the pool, by part."""
    deployments = {d["metadata"]["name"]: d for d in world.kube.all(DEPLOYMENTS)}
    router = deployments.pop(ROUTER)["spec"]
    groups = {name: found["spec"] for name, found in deployments.items()}
    counts = {name: spec.get("replicas", 1) for name, spec in groups.items()}
    external = [n for n, d in deployments.items() if REPLICAS in d["metadata"]["annotations"]]
    budgets = {b["metadata"]["name"]: b["spec"] for b in world.kube.all(POD_DISRUPTION_BUDGETS)}
    parts = ("template", "replicas", "selector")
    rest = {n: {k: v for k, v in spec.items() if k not in parts} for n, spec in groups.items()}
    instances = [InferenceInstance.from_object(one) for one in world.instances()]
    specs = sorted(plain(one["spec"]) for one in world.instances())
    status = objects(world)[THE_POOL]["status"]
    conditions = status.pop("conditions")
    return {
        name: plain(part)
        for name, part in {
            "pods": {name: leaves(spec["template"]) for name, spec in groups.items()},
            "number of pods": {**counts, "left to others": external},
            "rollout": rest,
            "budget": {name: spec for name, spec in budgets.items() if name != ROUTER},
            "router pods": router["template"],
            "number of router pods": router["replicas"],
            "service": [one["spec"] for one in world.kube.all(SERVICES)],
            "cache": {
                **{one["metadata"]["name"]: one["spec"] for one in world.kube.all(JOBS)},
                **{claim["metadata"]["name"]: claim["spec"] for claim in claims(world)},
            },
            "instances": specs,
            "status": leaves({"status": status}),
            "conditions": leaves({"conditions": conditions}),
            "routing": build_table(world.pool, instances, 0),
            "autoscaler": world.scaler.scene.groups if world.scaler.scene else (),
            "adapters": {target.wanted for target in world.adapters.targets},
            "models asked for": world.hub.asked[KEY],
            "provider asked": world.providers.asked[KEY],
        }.items()
    }


def in_any_order(found: Mapping[str, Object]) -> dict[str, object]:
    """The objects' fields: a list that has keys has no order."""
    return {name: leaves(dict(one)) for name, one in found.items()}


async def settled() -> World:
    world = World()
    world.hub.configs[HubModel("hf://Qwen/Qwen2.5-7B-Instruct", "main")] = CONFIG
    # Nobody asks for the group that is scaled.
    world.scaler.decided["mixed"] = Decision(0, "idle")
    world.apply_pool(**pool_object()["spec"])
    await world.settle()
    return world


def test_every_field_of_the_schema_is_here() -> None:
    assert FIELDS.keys() == pool_leaves()


@pytest.mark.parametrize("field", [f for f, entry in FIELDS.items() if isinstance(entry, Change)])
async def test_another_value_has_its_effect_and_the_former_one_takes_it_back(field: str) -> None:
    entry = FIELDS[field]
    assert isinstance(entry, Change)
    world = await settled()
    if field == "cache.reclaimPolicy":  # nothing is removed before all is fetched
        for job in world.kube.all(JOBS):
            finish(world, job)
        await world.settle()
    before, had = look(world), objects(world)
    spec = world.kube.read(POOLS, KEY.namespace, KEY.name)["spec"]
    pool = admit({**pool_object(), "spec": changed(spec, entry.path, entry.value)})
    world.apply_pool(**pool["spec"])
    await world.settle()
    now = look(world)
    assert {part for part in now if now[part] != before[part]} == entry.effects

    world.apply_pool(**spec)
    await world.settle()
    assert look(world) == before
    if field == "cache.claimName":  # a claim is never deleted
        assert objects(world).keys() == had.keys() | {"PersistentVolumeClaim other"}
    elif field == "groups[].name":  # a group of another name is another group
        assert objects(world).keys() == had.keys()
    else:
        assert in_any_order(objects(world)) == in_any_order(had)


@pytest.mark.parametrize("field", [f for f, entry in FIELDS.items() if isinstance(entry, Refusal)])
def test_another_value_is_refused_where_it_could_have_no_effect(field: str) -> None:
    entry = FIELDS[field]
    assert isinstance(entry, Refusal)
    old = admit(pool_object())
    new = {**old, "spec": changed(old["spec"], entry.path, entry.value)}
    with pytest.raises(Refused, match=re.escape(entry.sentence)):
        admit(new, old=old)
