"""Events: what has just turned, for `kubectl describe`. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from sagepool_crds import meta, names
from sagepool_crds.instance import InferenceInstance, InferenceInstanceStatus
from sagepool_crds.pool import InferencePool, InferencePoolStatus
from sagepool_kube.api import DEPLOYMENTS, INSTANCES, POOLS, Kind, Object
from sagepool_operator.conditions import DOWNLOADING, PASSING
from sagepool_operator.drift import APPLIED_ANNOTATION
from sagepool_operator.instance_conditions import REFUSALS
from sagepool_operator.plan import ChildKey, Event, EventType
from sagepool_operator.recorded import GROUP_ANNOTATION

_WAITING: Final = frozenset({"RouterNotReady", "EnginesNotReady"})
"""Reasons that pass by themselves while a pool comes up: worth telling when it had been ready."""


_LOSSES: Final = (names.CLOUD_REACHABLE, names.MODELS_FIT, names.ADAPTERS_LOADED)
"""Conditions that are told of when they become false, and when they cease to be."""


def of_pool(pool: InferencePool, new: InferencePoolStatus) -> tuple[Event, ...]:
    """The Ready condition has turned or has a new reason; the provider has gone or is back; models
    do not fit, or do at last; adapters cannot be loaded, or are; models are fetched into the cache,
    or are there."""
    lost = (_of_loss(pool, new, type_) for type_ in _LOSSES)
    found = (event for events in lost for event in events)
    return (*_of_ready(pool, new), *found, *_of_caching(pool, new))


def _of_caching(pool: InferencePool, new: InferencePoolStatus) -> tuple[Event, ...]:
    """Models are being fetched, something keeps them from the cache, or they are there."""
    old = meta.find_condition(pool.status.conditions, names.MODELS_CACHED)
    now = meta.find_condition(new.conditions, names.MODELS_CACHED)
    ready = meta.find_condition(new.conditions, names.READY)
    if now is None or (old is not None and old.reason == now.reason):
        return ()
    if now.reason in PASSING or (old and old.reason in PASSING and now.reason == DOWNLOADING):
        return ()  # it has begun, which has been told
    if ready is not None and ready.reason == now.reason:
        return ()  # it has been told as the reason of the whole pool
    is_fine = now.status == "True" or now.reason == DOWNLOADING
    type_: EventType = "Normal" if is_fine else "Warning"
    return (_event(pool, POOLS, type_, now.reason, "Fetch", now.message),)


def _of_ready(pool: InferencePool, new: InferencePoolStatus) -> tuple[Event, ...]:
    old = meta.find_condition(pool.status.conditions, names.READY)
    ready = meta.find_condition(new.conditions, names.READY)
    if ready is None or (old is not None and old.reason == ready.reason):
        return ()
    was_ready = old is not None and old.status == "True"
    if ready.reason in _WAITING and not was_ready:
        return ()
    is_fine = ready.status == "True" or ready.reason == "Suspended"
    type_: EventType = "Normal" if is_fine else "Warning"
    return (_event(pool, POOLS, type_, ready.reason, "Judge", ready.message),)


def _of_loss(pool: InferencePool, new: InferencePoolStatus, type_: str) -> tuple[Event, ...]:
    """A condition that is true from the start goes without saying."""
    was_lost = _is_false(pool.status, type_)
    is_lost = _is_false(new, type_)
    now = meta.find_condition(new.conditions, type_)
    ready = meta.find_condition(new.conditions, names.READY)
    if now is None or was_lost == is_lost:
        return ()
    if ready is not None and ready.reason == now.reason:
        return ()  # it has been told as the reason of the whole pool
    event_type: EventType = "Warning" if is_lost else "Normal"
    return (_event(pool, POOLS, event_type, now.reason, "Judge", now.message),)


def _is_false(status: InferencePoolStatus, type_: str) -> bool:
    condition = meta.find_condition(status.conditions, type_)
    return condition is not None and condition.status == "False"


def of_instance(instance: InferenceInstance, new: InferenceInstanceStatus) -> tuple[Event, ...]:
    """The instance has begun or ceased to get requests, or is refused them."""
    old = meta.find_condition(instance.status.conditions, names.READY)
    was = old is not None and old.status == "True"
    ready = meta.find_condition(new.conditions, names.READY)
    if ready is None:
        return ()
    is_refused = ready.reason in REFUSALS and (old is None or old.reason != ready.reason)
    if was == (ready.status == "True") and not is_refused:
        return ()
    if ready.status == "True":
        return (_event(instance, INSTANCES, "Normal", "Ready", "Probe", ready.message),)
    type_: EventType = "Normal" if new.phase == "Draining" else "Warning"
    return (_event(instance, INSTANCES, type_, ready.reason, "Probe", ready.message),)


def of_child(
    pool: InferencePool, kind: Kind, wanted: Object, live: Object | None, why: str = ""
) -> tuple[Event, ...]:
    """A Deployment is made, rolled or scaled; other kinds go without saying.

    `why` it is scaled, where the spec does not say it.
    """
    if kind != DEPLOYMENTS:
        return ()
    name = wanted["metadata"]["name"]
    replicas = wanted["spec"].get("replicas")
    if live is None:
        note = f"Deployment {name}, replicas: {'set by others' if replicas is None else replicas}"
        return (_event(pool, POOLS, "Normal", "Created", "Create", note),)
    events = []
    if _mark(wanted) != _mark(live):
        note = f"Deployment {name} gets new pods: its group has changed"
        events.append(_event(pool, POOLS, "Normal", "RollingOut", "Update", note))
    before = live["spec"].get("replicas")
    if replicas is not None and before != replicas:
        note = f"Deployment {name}, replicas: {before} -> {replicas}{f': {why}' if why else ''}"
        events.append(_event(pool, POOLS, "Normal", "Scaled", "Scale", note))
    if not events and _applied(wanted) == _applied(live):
        note = f"Deployment {name} had been changed by somebody else"
        events.append(_event(pool, POOLS, "Normal", "Repaired", "Update", note))
    return tuple(events)


def of_pruning(pool: InferencePool, models: str, size_bytes: int, place: str) -> tuple[Event, ...]:
    """Models that no pool wants any more have been removed."""
    note = f"removed {models} from {place}: {size_bytes / 2**30:.1f} GiB that no pool wants"
    return (_event(pool, POOLS, "Normal", "ModelsRemoved", "Prune", note),)


def of_removal(pool: InferencePool, key: ChildKey) -> tuple[Event, ...]:
    """A Deployment is removed with its group."""
    if key.kind != DEPLOYMENTS:
        return ()
    note = f"Deployment {key.name}: its group is no longer in the spec"
    return (_event(pool, POOLS, "Normal", "Removed", "Delete", note),)


def _mark(deployment: Object) -> str:
    return _annotation(deployment, GROUP_ANNOTATION)


def _applied(obj: Object) -> str:
    return _annotation(obj, APPLIED_ANNOTATION)


def _annotation(obj: Object, name: str) -> str:
    annotations: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return annotations.get(name, "")


def _event(
    obj: InferencePool | InferenceInstance,
    kind: Kind,
    type_: EventType,
    reason: str,
    action: str,
    note: str,
) -> Event:
    regarding: dict[str, Any] = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "namespace": obj.metadata.namespace,
        "name": obj.metadata.name,
        "uid": obj.metadata.uid,
    }
    return Event(regarding, type_, reason, action, note)
