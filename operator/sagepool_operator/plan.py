"""What the planner decides: writes, status, events, whom to probe and when to look again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sagepool_crds import names
from sagepool_crds.instance import Endpoint
from sagepool_crds.pool import EngineType
from sagepool_kube.api import Kind, Object
from sagepool_operator.autoscaling.scene import Scene
from sagepool_operator.reports import TargetKey
from sagepool_operator.router_pods import RouterPod
from sagepool_operator.sizing import HubModel


@dataclass(frozen=True, slots=True)
class ChildKey:
    """An object that a pool owns; its namespace is the pool's."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        """`Kind name`, for people."""
        return f"{self.kind.kind} {self.name}"


EventType: TypeAlias = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Event:
    """A transition to record on an object as a Kubernetes Event."""

    regarding: Mapping[str, Any]
    """apiVersion, kind, namespace, name and uid of the object."""
    type: EventType
    reason: str
    action: str
    note: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Make the object so, by server-side apply."""

    kind: Kind
    obj: Object
    events: tuple[Event, ...] = ()
    """To record once it is done."""
    manager: str = names.FIELD_MANAGER
    """Whose the fields are from then on."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the object, if it is still the one with this uid."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    events: tuple[Event, ...] = ()
    """To record once it is done."""


@dataclass(frozen=True, slots=True)
class ApplyStatus:
    """Make the status so, by server-side apply on `/status`."""

    kind: Kind
    obj: Object
    events: tuple[Event, ...] = ()
    """To record once it is done."""


@dataclass(frozen=True, slots=True)
class Target:
    """An engine to probe."""

    namespace: str
    instance: str
    uid: str
    """The instance's uid."""
    incarnation: str
    """Another one after each restart of the container and each change of the address: what was
    found before says nothing after it."""
    engine: EngineType
    endpoints: tuple[Endpoint, ...]

    @property
    def key(self) -> TargetKey:
        """What its report is filed under."""
        return (self.namespace, self.instance, self.uid, self.incarnation)


@dataclass(frozen=True, slots=True)
class AdapterTarget:
    """An engine that takes LoRA adapters."""

    key: TargetKey
    """What its report is filed under."""
    engine: EngineType
    url: str
    """Without a slash at the end."""
    wanted: tuple[tuple[str, str], ...]
    """Names, each with a path in its container or a name on the hub."""


@dataclass(frozen=True, slots=True)
class ProgressTarget:
    """A download to ask how far it is."""

    uid: str
    """Of its pod."""
    url: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One step towards what the pool's spec says. Empty when everything is as it should be."""

    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    statuses: tuple[ApplyStatus, ...] = ()
    gates: tuple[ApplyStatus, ...] = ()
    """Pods that count as ready from now on."""
    targets: tuple[Target, ...] = ()
    """Every engine to probe from now on, not only new ones."""
    adapters: tuple[AdapterTarget, ...] = ()
    """Every engine whose adapters to see to from now on."""
    downloads: tuple[ProgressTarget, ...] = ()
    """Every download to ask how far it is from now on."""
    provider: str = ""
    """Address of the cloud provider to ask from now on; empty: none."""
    models: tuple[HubModel, ...] = ()
    """Models to find out about from now on, and no others."""
    scene: Scene | None = None
    """What is scaled by what routers report; None: nothing is."""
    routers: tuple[RouterPod, ...] = ()
    """Every router to ask from now on which instances it sends to."""
    requeue_after_s: float | None = None
    """When to look again though nothing has changed."""

    @property
    def writes_nothing(self) -> bool:
        """Whether carrying it out sends nothing to the API server."""
        return not (self.applies or self.deletes or self.gates or self.statuses)
