"""The pod template of a group's engines."""

from collections.abc import Mapping
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pod_template import EMBEDDING_PORT, ENGINE_CONTAINER
from sagepool_crds.pool import Group, InferencePool
from sagepool_operator.builders import cache, identity, podpatch, registry, security, sidecar
from sagepool_operator.caching import places_of
from sagepool_operator.config import Images
from sagepool_operator.engines.container import EngineContainer

_PORT: Final = "http"
_HUNG_S: Final = 5
"""What an engine that has stopped answering gets before it is killed: it has nothing to finish."""
_SHARED_MEMORY_PER_GPU: Final = "4Gi"


def build_template(
    pool: InferencePool, group: Group, engine: EngineContainer, images: Images
) -> dict[str, Any]:
    """The pod template as the operator decides it today, with the group's own patch over it."""
    template = _plain_template(pool, group, engine, images)
    spec = template["spec"]
    places = places_of(pool, group)
    for volume in dict.fromkeys(place.volume for place in places if place.volume is not None):
        spec["containers"][0]["volumeMounts"].append(cache.build_mount(volume))
        spec["volumes"].append(cache.build_volume(pool, volume))
    fetched = [place for place in places if place.download is not None]
    if fetched:
        # First: there is nothing for the sidecar to stand beside before.
        spec["initContainers"].insert(0, cache.build_wait(pool, fetched, images))
    return podpatch.merge(template, group.pod_template or {})


def _plain_template(
    pool: InferencePool, group: Group, engine: EngineContainer, images: Images
) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": identity.group_labels(pool, group),
            "annotations": {
                "kubectl.kubernetes.io/default-container": ENGINE_CONTAINER,
                names.MODEL_ANNOTATION: group.model.name,
                **_second_model(group),
                **_embedding_source(group),
                names.ENGINE_ANNOTATION: group.engine.type,
                **({names.LORA_ANNOTATION: "true"} if group.lora_room is not None else {}),
            },
        },
        "spec": {
            **registry.credentials(images.pull_secrets),
            "automountServiceAccountToken": False,
            # Service variables such as VLLM_PORT=tcp://... would be read by engines.
            "enableServiceLinks": False,
            # The first process of a PID namespace ignores SIGTERM until it handles it: an engine
            # deleted while it loads would keep its GPU for the whole grace period.
            "shareProcessNamespace": True,
            # The kubelet's clock runs from the beginning of preStop.
            "terminationGracePeriodSeconds": group.rollout.drain_seconds + engine.stop_limit_s,
            "securityContext": (
                security.restricted_pod() if engine.is_ours else security.engine_pod()
            ),
            "readinessGates": [{"conditionType": names.ROUTABLE_GATE}],
            "initContainers": [sidecar.build_container(group, images)],
            "containers": [_container(group, engine)],
            "volumes": [
                {"name": name, "emptyDir": source} for name, source, _ in _mounts(group, engine)
            ],
        },
    }


def _second_model(group: Group) -> dict[str, str]:
    if group.embedding_model is None:
        return {}
    return {names.EMBEDDING_MODEL_ANNOTATION: group.embedding_model.name}


def _embedding_source(group: Group) -> dict[str, str]:
    found = next((model.source for role, model in group.served if role == "embedding"), "")
    return {names.EMBEDDING_SOURCE_ANNOTATION: found} if found else {}


def _container(group: Group, engine: EngineContainer) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": ENGINE_CONTAINER,
        "image": engine.image,
        "imagePullPolicy": engine.pull_policy,
        **({"command": list(engine.command)} if engine.command else {}),
        "args": list(engine.args),
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in ((_PORT, group.engine.port), (EMBEDDING_PORT, engine.embedding_port))
            if port
        ],
        "resources": _resources(group, engine),
        "securityContext": (
            security.restricted_container() if engine.is_ours else security.engine_container()
        ),
        "volumeMounts": [
            {"name": name, "mountPath": path} for name, _, path in _mounts(group, engine)
        ],
        "lifecycle": {"preStop": sidecar.build_hook(group)},
        # An engine says on its log what it cannot bear: a flag, a model, too little memory.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **_probes(engine),
    }
    if engine.env:
        container["env"] = [dict(variable) for variable in engine.env]
    return container


def _probes(engine: EngineContainer) -> dict[str, Any]:
    check: dict[str, Any] = {"httpGet": {"path": "/health", "port": _PORT, "scheme": "HTTP"}}
    answer_s = 5
    if engine.health_command:
        # It starts a process and asks two engines.
        check, answer_s = {"exec": {"command": list(engine.health_command)}}, 10
    period_s = engine.probe_period_s
    return {
        "startupProbe": {
            **check,
            "periodSeconds": period_s,
            "timeoutSeconds": answer_s,
            "failureThreshold": engine.load_limit_s // period_s,
        },
        "readinessProbe": {
            **check,
            "periodSeconds": min(period_s, 5),
            "timeoutSeconds": answer_s,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **check,
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
            # The pod's own limit is for orderly leaving.
            "terminationGracePeriodSeconds": _HUNG_S,
        },
    }


def _resources(group: Group, engine: EngineContainer) -> dict[str, Any]:
    requests: dict[str, str] = dict(engine.requests)
    limits: dict[str, str] = {}
    if group.gpu is not None:
        # An extended resource cannot be overcommitted: request and limit must be the same.
        requests[group.gpu.resource_name] = limits[group.gpu.resource_name] = str(group.gpu.count)
    return {"requests": requests, "limits": limits}


def _mounts(group: Group, engine: EngineContainer) -> list[tuple[str, Mapping[str, Any], str]]:
    """Volumes that live as long as the pod: name, source, path."""
    mounts: list[tuple[str, Mapping[str, Any], str]] = []
    if engine.cache_path is not None:
        mounts.append(("cache", {}, engine.cache_path))
    if engine.is_ours:
        mounts.append(("tmp", {}, "/tmp"))
    elif group.gpu is not None and group.gpu.count > 1:
        # Processes of a tensor-parallel engine talk through /dev/shm, 64 MiB by default.
        source = {"medium": "Memory", "sizeLimit": _times(group.gpu.count, _SHARED_MEMORY_PER_GPU)}
        mounts.append(("shared-memory", source, "/dev/shm"))
    return mounts


def _times(count: int, quantity: str) -> str:
    return f"{count * int(quantity.removesuffix('Gi'))}Gi"
