"""Every string that more than one part of sagepool relies on, once."""

from typing import Final

GROUP: Final = "sagepool.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "sagepool"

POOL_KIND: Final = "InferencePool"
POOL_PLURAL: Final = "inferencepools"
POOL_SHORT: Final = "spool"
INSTANCE_KIND: Final = "InferenceInstance"
INSTANCE_PLURAL: Final = "inferenceinstances"
INSTANCE_SHORT: Final = "sinst"

FIELD_MANAGER: Final = "sagepool"
SCALE_MANAGER: Final = "sagepool-scale"
"""Keeps a Deployment's replicas as they are when the operator hands them over to others."""

NOTES_MANAGER: Final = "sagepool-notes"
"""Notes on a Job of ours what has been told of it."""

POOL_LABEL: Final = "sagepool.dev/pool"
GROUP_LABEL: Final = "sagepool.dev/group"
ROLE_LABEL: Final = "sagepool.dev/role"
DOWNLOAD_LABEL: Final = "sagepool.dev/download"
"""On the pod of a Job that fetches or removes models: the name of its Job."""
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"

REFRESH_ANNOTATION: Final = "sagepool.dev/refresh"
"""On a pool: a new value makes the operator build every engine pod anew with today's defaults."""

REPLICAS_ANNOTATION: Final = "sagepool.dev/replicas"
"""On a group's Deployment: `external` where others than the operator say how many pods it has."""

TOLD_ANNOTATION: Final = "sagepool.dev/told"
"""On a Job that has removed models: an Event has told of it."""

MODEL_ANNOTATION: Final = "sagepool.dev/model"
EMBEDDING_MODEL_ANNOTATION: Final = "sagepool.dev/embedding-model"
ENGINE_ANNOTATION: Final = "sagepool.dev/engine"
EMBEDDING_SOURCE_ANNOTATION: Final = "sagepool.dev/embedding-source"
LORA_ANNOTATION: Final = "sagepool.dev/lora"
"""On an engine pod: the models' names, the engine's type, the source of the weights that make its
embeddings, and whether it takes adapters, as it was built with."""

ROUTABLE_GATE: Final = "sagepool.dev/routable"
"""Readiness gate of an engine pod: every ready router sends requests to it."""

ROUTER_OWNER: Final = "sagepool-router"
"""What a router writes as `owned_by` of its models, so that no router is taken for an engine."""

REQUEST_ID_HEADER: Final = "x-request-id"
INSTANCE_HEADER: Final = "x-sagepool-instance"
REASON_HEADER: Final = "x-sagepool-reason"

# Condition types of a pool.
READY: Final = "Ready"
PROGRESSING: Final = "Progressing"
ROUTER_READY: Final = "RouterReady"
SCHEDULED: Final = "Scheduled"
CLOUD_REACHABLE: Final = "CloudReachable"
MODELS_FIT: Final = "ModelsFit"
MODELS_CACHED: Final = "ModelsCached"

# Condition types of both.
ADAPTERS_LOADED: Final = "AdaptersLoaded"

# Condition types of an instance (Ready too).
ENGINE_READY: Final = "EngineReady"
ROUTABLE: Final = "Routable"

CONDITIONS: Final = frozenset(
    {
        READY,
        PROGRESSING,
        ROUTER_READY,
        SCHEDULED,
        CLOUD_REACHABLE,
        MODELS_FIT,
        MODELS_CACHED,
        ADAPTERS_LOADED,
        ENGINE_READY,
        ROUTABLE,
    }
)
"""Those that the operator writes; others may stand beside them."""


def router_name(pool: str) -> str:
    """Name of a pool's router: its Deployment, Service, ServiceAccount, Role and RoleBinding."""
    return f"{pool}-router"


def group_name(pool: str, group: str) -> str:
    """Name of the Deployment that runs a group's engines."""
    return f"{pool}-{group}"


def download_name(pool: str, key: str) -> str:
    """Name of the Job that fetches a model; `key` tells it from the pool's others."""
    return f"{pool}-model-{key}"


def prune_name(pool: str, key: str) -> str:
    """Name of the Job that removes models which the pool wants no longer; `key` tells it from that
    of another set of models."""
    return f"{pool}-prune-{key}"


def claim_name(pool: str) -> str:
    """Name of the claim that is made for a pool's models, when the pool gives none."""
    return f"{pool}-models"
