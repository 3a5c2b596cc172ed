"""What sagepool needs of a Kubernetes API server, as a protocol: tests swap in a fake."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from sagepool_crds import names

Object: TypeAlias = Mapping[str, Any]
"""A Kubernetes object as JSON."""
EventType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API server keeps it."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    is_custom: bool = False
    """Whether a CustomResourceDefinition defines it: that may change under its objects."""

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Plural and group, as kubectl and the API server's messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


POOLS: Final = Kind(names.GROUP, names.VERSION, names.POOL_KIND, names.POOL_PLURAL, is_custom=True)
INSTANCES: Final = Kind(
    names.GROUP, names.VERSION, names.INSTANCE_KIND, names.INSTANCE_PLURAL, is_custom=True
)
PODS: Final = Kind("", "v1", "Pod", "pods")
SERVICES: Final = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "ServiceAccount", "serviceaccounts")
EVENTS: Final = Kind("events.k8s.io", "v1", "Event", "events")
DEPLOYMENTS: Final = Kind("apps", "v1", "Deployment", "deployments")
ROLES: Final = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDINGS: Final = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
JOBS: Final = Kind("batch", "v1", "Job", "jobs")
PERSISTENT_VOLUME_CLAIMS: Final = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
LEASES: Final = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITIONS: Final = Kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
)
POD_DISRUPTION_BUDGETS: Final = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")


@dataclass(frozen=True, slots=True)
class ObjectList:
    """Objects of one kind and the version of the world that they were read at."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch."""

    type: EventType
    object: Object


class ObjectApi(Protocol):
    """Calls about one object. Each has a time-out of its own and raises only KubeError.

    `namespace=None` means a cluster-scoped kind.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object. Raises NotFound."""
        ...

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create with strict field validation. Raises AlreadyExists, Invalid."""
        ...

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        obj: Object,
        *,
        field_manager: str = names.FIELD_MANAGER,
        subresource: str | None = None,
        force: bool = True,
    ) -> Object:
        """Server-side apply. Raises Conflict, Invalid, NotFound (for a subresource).

        With a `metadata.resourceVersion` it is carried out at that version only, or Conflict is
        raised; an object that is gone is made anew all the same.
        """
        ...

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None
    ) -> None:
        """Delete it, and what it owns after it; a Job after its pods, so that none runs any more.
        `uid` guards against a namesake. Raises NotFound, Conflict."""
        ...


class KubeApi(ObjectApi, Protocol):
    """Calls to the API server. Each has a time-out of its own and raises only KubeError.

    `namespace=None` means all namespaces (list and watch) or a cluster-scoped kind.
    """

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """Read all objects that match, in pages; each item says its apiVersion and kind."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float = 300.0,
        inactivity_s: float = 90.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after `resource_version`, bookmarks included.

        The first event is a bookmark at `resource_version`, given as soon as the server has
        accepted the watch: it says that the server answers. Ends without an error when the server
        ends the watch (after about `timeout_s`). Raises Gone when the version is too old,
        Unavailable when the connection breaks or nothing at all arrives for `inactivity_s`
        (bookmarks come about once a minute). Close it with `contextlib.aclosing`.
        """
        ...

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        obj: Object,
        *,
        field_manager: str = names.FIELD_MANAGER,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """As an ObjectApi does. With `dry_run` nothing is stored: the answer is what would be."""
        ...

    async def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        field_manager: str = names.FIELD_MANAGER,
    ) -> Object:
        """Change fields by JSON Patch (RFC 6902). Raises NotFound, Invalid (a failed test too)."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
