"""The pod template of a group, decided once and kept until its user asks for another. Pure.

A new version of the operator may bring other default images, flags or probes. If they reached
running engines, an upgrade of the operator would reload every model on every GPU. So a group's
Deployment carries the template that was decided for it and a digest of what the user had written
then. While the digest fits, the recorded template is the wanted one. It is decided anew when the
user changes the group, or gives the pool's annotation `sagepool.dev/refresh` another value.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import Object
from sagepool_operator.caching import cache_of, claim_of, places_of
from sagepool_operator.drift import digest

GROUP_ANNOTATION: Final = "sagepool.dev/group-digest"
TEMPLATE_ANNOTATION: Final = "sagepool.dev/pod-template"

_NOT_OF_THE_POD: Final[Mapping[str, bool | set[str]]] = {
    "replicas": True,
    "scaling": True,
    "max_concurrency": True,
    "adapters": True,  # they come and go while engines run
    # Of both models the router resolves the first; only the download has the second.
    "model": {"aliases", "credentials_secret"},
    "embedding_model": {"aliases", "credentials_secret"},
    "gpu": {"price_per_hour", "memory"},
    "rollout": {"max_surge", "max_unavailable"},
}


def group_digest(pool: InferencePool, group: Group) -> str:
    """What the user has said of the group's pods, as a digest.

    Fields at their defaults are left out, so that a field that a later version adds to the API
    changes no digest.
    """
    said = group.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude=dict(_NOT_OF_THE_POD)
    )
    if not said.get("rollout"):
        said.pop("rollout", None)  # nothing is left of it that pods know of
    if group.lora_room is not None:
        said.setdefault("lora", {})  # the first adapter makes the room that it would have made
    refresh = pool.metadata.annotations.get(names.REFRESH_ANNOTATION, "")
    return digest({"group": said, "refresh": refresh, **_cache(pool, group)})


def _cache(pool: InferencePool, group: Group) -> dict[str, Any]:
    """Where the group's pods find a model that is fetched for them."""
    cache = cache_of(pool)
    if cache is None or not any(place.download for place in places_of(pool, group)):
        return {}
    return {"cache": [cache.type, claim_of(pool) or cache.path]}


def recall(deployment: Object | None, said: str) -> dict[str, Any] | None:
    """The template recorded for that digest; None when it has to be decided anew."""
    if deployment is None:
        return None
    annotations: Mapping[str, str] = deployment["metadata"].get("annotations") or {}
    text = annotations.get(TEMPLATE_ANNOTATION, "")
    # Both are in the digest: a record that somebody edited is no record.
    if annotations.get(GROUP_ANNOTATION) != _mark(said, text):
        return None
    template: dict[str, Any] = json.loads(text)
    return template


def record(template: Mapping[str, Any], said: str) -> dict[str, str]:
    """The annotations that `recall` reads."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return {GROUP_ANNOTATION: _mark(said, text), TEMPLATE_ANNOTATION: text}


def _mark(said: str, template: str) -> str:
    return f"{said}-{digest(template)}"
