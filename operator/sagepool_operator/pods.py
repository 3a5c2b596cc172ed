"""What a pod's own status says, without the rest of the pod. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sagepool_crds import names
from sagepool_crds.pod_template import EMBEDDING_PORT, WAIT_CONTAINER
from sagepool_kube.api import Object
from sagepool_operator.builders.cache import folders_of_pod


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run, in the kubelet's words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended the last time."""

    code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod as far as judging it needs."""

    name: str
    uid: str
    group: str = ""
    """The value of its group label; empty on a router's pod."""
    ip: str = ""
    made_at: datetime | None = None
    is_deleting: bool = False
    unschedulable: str = ""
    """The scheduler's words; empty when the pod has a node."""
    waiting: Waiting | None = None
    last_exit: Exit | None = None
    """Of the main container; None when it never ended."""
    restarts: int = 0
    is_mounting: bool = False
    """It has a node and waits for its volumes: one that is missing is waited for for ever."""
    is_running: bool = False
    """Its main container runs."""
    started_at: datetime | None = None
    """Since when it runs."""
    model: str = ""
    """Name of the model that its engine serves; a pod of an older spec serves another one."""
    embedding_model: str = ""
    """Name of the one that it serves for embeddings besides; empty when there is none."""
    embedding_source: str = ""
    """Where the weights of its embeddings come from; empty when it does not say."""
    engine: str = ""
    """Type of its engine."""
    takes_adapters: bool = False
    """Its engine was started with room for LoRA adapters."""
    port: int = 0
    """Port that its engine listens on."""
    embedding_port: int = 0
    """Where a second process of it embeds; 0 where there is none."""
    failure: str = ""
    """Why the whole pod has failed (evicted, node lost); empty when it has not."""
    is_ready: bool = False
    """It counts as ready: its Service sends to it, its Deployment goes on."""
    has_gate: bool = False
    """It is not ready before its routable gate is opened."""
    is_gate_open: bool = False
    model_folders: frozenset[str] = frozenset()
    """Below the cache, of the models that it fetches or loads; none when none of the cache."""
    awaits_model: bool = False
    """It waits until its models are in the cache."""
    blocked_by: str = ""
    """The init container that the main one waits for and that does not run; `waiting`, `last_exit`
    and `restarts` are then its. Empty when there is none."""


def read_pod(pod: Object, group_label: str) -> PodFacts:
    """The facts of a pod."""
    meta: Mapping[str, Any] = pod["metadata"]
    status: Mapping[str, Any] = pod.get("status") or {}
    annotations: Mapping[str, str] = meta.get("annotations") or {}
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
    main = _main_container(pod, status)
    blocking = _blocking_container(main, status)
    container = blocking or main
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    waiting = state.get("waiting")
    return PodFacts(
        name=meta["name"],
        uid=meta["uid"],
        group=(meta.get("labels") or {}).get(group_label, ""),
        ip=status.get("podIP", ""),
        made_at=_time(meta.get("creationTimestamp")),
        is_deleting="deletionTimestamp" in meta,
        unschedulable=_unschedulable(conditions),
        waiting=_waiting(waiting) if waiting else None,
        last_exit=_exit(ended) if ended else None,
        restarts=int(container.get("restartCount", 0)),
        is_mounting=_is_mounting(waiting, conditions),
        is_running="running" in state,
        started_at=_started_at(state),
        model=annotations.get(names.MODEL_ANNOTATION, ""),
        embedding_model=annotations.get(names.EMBEDDING_MODEL_ANNOTATION, ""),
        embedding_source=annotations.get(names.EMBEDDING_SOURCE_ANNOTATION, ""),
        engine=annotations.get(names.ENGINE_ANNOTATION, ""),
        takes_adapters=names.LORA_ANNOTATION in annotations,
        port=_port(pod),
        embedding_port=_port(pod, EMBEDDING_PORT),
        failure=_failure(status),
        is_ready=_is_true(conditions, "Ready"),
        has_gate=_has_gate(pod),
        is_gate_open=_is_true(conditions, names.ROUTABLE_GATE),
        model_folders=folders_of_pod(pod.get("spec") or {}),
        awaits_model=_awaits_model(status),
        blocked_by=str(blocking["name"]) if blocking else "",
    )


def is_controlled_by(pod: Object, kind: str) -> bool:
    """Whether a controller of that kind made the pod."""
    owners: Iterable[Mapping[str, Any]] = pod["metadata"].get("ownerReferences") or ()
    return any(owner["kind"] == kind and owner.get("controller") for owner in owners)


def _main_container(pod: Object, status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the first container; others may have been injected behind it."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    first = containers[0]["name"] if containers else ""
    statuses: Iterable[Mapping[str, Any]] = status.get("containerStatuses") or ()
    return next((s for s in statuses if s["name"] == first), {})


def _blocking_container(
    main: Mapping[str, Any], status: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The status of the init container that waits to be run, while the main one waits for it."""
    waiting = (main.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") != "PodInitializing":
        return None
    statuses: Iterable[Mapping[str, Any]] = status.get("initContainerStatuses") or ()
    return next((s for s in statuses if "waiting" in (s.get("state") or {})), None)


def _awaits_model(status: Mapping[str, Any]) -> bool:
    statuses: Iterable[Mapping[str, Any]] = status.get("initContainerStatuses") or ()
    return any(
        s["name"] == WAIT_CONTAINER and "running" in (s.get("state") or {}) for s in statuses
    )


def _port(pod: Object, name: str = "") -> int:
    """The port of that name of the first container, or its first one; 0 where there is none."""
    containers: Sequence[Mapping[str, Any]] = (pod.get("spec") or {}).get("containers") or ({},)
    ports: Iterable[Mapping[str, Any]] = containers[0].get("ports") or ()
    found = (port for port in ports if not name or port.get("name") == name)
    return next((int(port["containerPort"]) for port in found), 0)


def _has_gate(pod: Object) -> bool:
    gates: Iterable[Mapping[str, Any]] = (pod.get("spec") or {}).get("readinessGates") or ()
    return any(gate["conditionType"] == names.ROUTABLE_GATE for gate in gates)


def _is_true(conditions: Iterable[Mapping[str, Any]], type_: str) -> bool:
    return any(c["type"] == type_ and c["status"] == "True" for c in conditions)


def _unschedulable(conditions: Iterable[Mapping[str, Any]]) -> str:
    for condition in conditions:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "not scheduled")
    return ""


def _is_mounting(
    waiting: Mapping[str, Any] | None, conditions: Iterable[Mapping[str, Any]]
) -> bool:
    """The kubelet makes the pod's sandbox once its volumes are there, and then pulls images."""
    if waiting is None or waiting.get("reason") != "ContainerCreating":
        return False
    return any(
        c["type"] == "PodReadyToStartContainers" and c["status"] == "False" for c in conditions
    )


def _started_at(state: Mapping[str, Any]) -> datetime | None:
    return _time((state.get("running") or {}).get("startedAt"))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _waiting(state: Mapping[str, Any]) -> Waiting:
    return Waiting(str(state.get("reason", "")), str(state.get("message", "")))


def _exit(state: Mapping[str, Any]) -> Exit:
    return Exit(
        int(state.get("exitCode", 0)), str(state.get("reason", "")), str(state.get("message", ""))
    )


def _failure(status: Mapping[str, Any]) -> str:
    if status.get("phase") != "Failed":
        return ""
    return str(status.get("message") or status.get("reason") or "the pod failed")
