"""The routing table: what one pool serves and where, immutable, swapped whole.

Pure: built from the pool and its instances, whatever they were read from.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import urlsplit

from sagepool_crds import meta, names
from sagepool_crds.cloud import Source
from sagepool_crds.instance import Endpoint, InferenceInstance, Phase
from sagepool_crds.pool import EngineType, Group, InferencePool, Role
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings, Targets


@dataclass(frozen=True, slots=True)
class Backend:
    """One engine process that can be sent to: an endpoint of an instance."""

    instance: str
    uid: str
    role: Role
    engine: EngineType
    scheme: str
    host: str
    port: int
    prefix: str
    """Path before /v1, without a slash at the end; mostly empty."""
    models: tuple[str, ...]
    limit: int
    """Requests that this router keeps in flight on it at most."""
    device: str = ""
    """The GPU: what has the same one shares it; empty: its own."""
    price_per_hour: float = 0.0
    """Of the whole instance; 0: not known."""
    gpus: int = 1
    """GPUs of the instance, as its group says; 1 where nobody says."""
    group: str = ""
    """The pool's group that it is of; empty when it runs elsewhere."""

    @property
    def key(self) -> "BackendKey":
        """What makes it the same process: live state is kept over table swaps by this key."""
        return (
            self.instance,
            self.uid,
            self.role,
            self.scheme,
            self.host,
            self.port,
            self.prefix,
        )


BackendKey: TypeAlias = tuple[str, str, Role, str, str, int, str]
"""Identity of a Backend: one endpoint of one incarnation of an instance."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as the admin port shows it, routable or not."""

    name: str
    roles: tuple[Role, ...]
    models: tuple[str, ...]
    phase: Phase
    routable: bool
    reason: str
    """Why it is not routable; empty when it is."""


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """A model name and who answers for it."""

    name: str
    """The name that engines know; an alias is replaced by it."""
    role: Role
    backends: tuple[Backend, ...]
    created: int
    """Unix time of the pool's creation, for /v1/models."""
    parent: str = ""
    """The model that it is an adapter of; empty when it is none."""
    absence: str = ""
    """Why there is no backend, for people; empty when there is one."""
    is_starting: bool = False
    """There are instances, and none of them is ready."""
    dimension: int | None = None
    """Length of its embeddings, as its instances say."""
    hold_s: float = 0.0
    """How long a request waits for a first instance; 0: it is refused while there is none."""
    is_expected: bool = False
    """There is no backend, but there should soon be one: the pool asks for it, and not everything
    that there is has failed."""


@dataclass(frozen=True, slots=True)
class CloudTarget:
    """The provider that answers where the pool's own engines do not."""

    base_url: str
    models: Mapping[str, str]
    """The pool's names with the provider's."""
    when: frozenset[str]
    """Causes for which it answers: absent, starting, overloaded."""
    same_space: frozenset[str]
    """Embedding models that are the very same there."""
    price_input: float = 0.0
    """For a million tokens."""
    price_output: float = 0.0
    """For a million tokens."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All that routing needs to know of the world."""

    version: int = 0
    pool: str = ""
    models: Mapping[str, ModelRoute] = field(default_factory=dict)
    """By every name that clients may send, aliases included."""
    instances: tuple[InstanceView, ...] = ()
    suspended: bool = False
    scheduling: SchedulingSettings = field(default_factory=SchedulingSettings)
    source: Source = "auto"
    """Who may answer."""
    cloud: CloudTarget | None = None
    """None also where source is local."""
    routers: int = 1
    """Routers of the pool: each holds its part of limits that are for all."""
    asks_for_keys: bool = False
    """Nobody is answered without an API key."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The pool's groups with the models that they serve."""


EMPTY = RoutingTable()


def build_table(
    pool: InferencePool, instances: Iterable[InferenceInstance], version: int
) -> RoutingTable:
    """The table of a pool and its instances.

    A model that no instance serves yet stays in the table with no backend, so that it is
    answered with 503 and a reason, not with 404.
    """
    found = _find(pool, instances)
    backends, views = found.backends, found.views
    created = pool.metadata.creation_timestamp
    holds = _holds(pool)
    routes = {
        name: ModelRoute(
            name=name,
            role=role,
            backends=tuple(backends.get(name, ())),
            created=int(created.timestamp()) if created else 0,
            parent=found.parents.get(name, ""),
            absence="" if name in backends else _absence(pool, name, views),
            is_starting=name not in backends and any(name in view.models for view in views),
            dimension=found.dimensions.get(name),
            hold_s=holds.get(name, 0.0),
            is_expected=name not in backends and _is_expected(pool, name, views),
        )
        for name, role in found.roles.items()
    }
    for route in _awaited_adapters(pool, routes, found.loading):
        routes.setdefault(route.name, route)
    return RoutingTable(
        version=version,
        pool=pool.metadata.name,
        models={**_aliases(pool, routes), **routes},
        instances=tuple(views),
        suspended=pool.spec.suspend,
        scheduling=read_scheduling(pool),
        source=pool.spec.source,
        cloud=_cloud(pool),
        routers=pool.spec.router.replicas,
        asks_for_keys=pool.spec.router.auth is not None,
        groups={g.name: _names(g) for g in pool.spec.groups},
    )


@dataclass(slots=True)
class _Found:
    """What the instances of a pool serve."""

    roles: dict[str, Role]
    """By model, adapters included."""
    backends: dict[str, list[Backend]] = field(default_factory=dict)
    """By model."""
    parents: dict[str, str] = field(default_factory=dict)
    """By adapter, the model that it adapts."""
    loading: set[str] = field(default_factory=set)
    """Adapters that an engine is about to have."""
    dimensions: dict[str, int | None] = field(default_factory=dict)
    views: list[InstanceView] = field(default_factory=list)


def _find(pool: InferencePool, instances: Iterable[InferenceInstance]) -> _Found:
    gpus = {g.name: g.gpu.count if g.gpu is not None else 1 for g in pool.spec.groups}
    served = [pair for group in pool.spec.groups for pair in group.served]
    found = _Found({model.name: role for role, model in served})
    for instance in sorted(instances, key=lambda i: i.metadata.name):
        if instance.spec.pool_ref != pool.metadata.name:
            continue
        reason = _why_not(instance)
        found.views.append(_view(instance, reason))
        for endpoint in instance.spec.endpoints:
            backend = None
            if not reason and endpoint.url is not None:
                backend = _backend(instance, endpoint, gpus.get(instance.spec.group or "", 1))
                _add_adapters(found, instance, endpoint, backend)
            for model in endpoint.models:
                role = found.roles.setdefault(model, endpoint.role)
                if backend is not None and role == endpoint.role:
                    found.backends.setdefault(model, []).append(backend)
            if endpoint.role == "embedding" and instance.status.model is not None:
                for model in endpoint.models:
                    found.dimensions.setdefault(model, instance.status.model.dimension)
    return found


def _add_adapters(
    found: _Found, instance: InferenceInstance, endpoint: Endpoint, backend: Backend
) -> None:
    """Adapters are models of their own, on the instances that have them."""
    if endpoint.role != "llm":
        return
    for adapter in instance.status.adapters:
        if adapter.phase == "Loading":
            found.loading.add(adapter.name)
        if adapter.phase != "Loaded" or adapter.name in endpoint.models:
            continue
        if found.roles.setdefault(adapter.name, "llm") == "llm":
            found.backends.setdefault(adapter.name, []).append(backend)
            found.parents.setdefault(adapter.name, endpoint.models[0])


def _awaited_adapters(
    pool: InferencePool, routes: Mapping[str, ModelRoute], loading: Collection[str]
) -> Iterator[ModelRoute]:
    """Adapters that no instance has and one should soon have, or that share the absence of their
    model. One that engines do without is no model of the pool."""
    for group in pool.spec.groups:
        base = routes[group.model.name]
        for adapter in group.adapters:
            route = replace(base, name=adapter.name, parent=base.name, backends=())
            if not base.backends:
                yield route
            elif adapter.name in loading:
                words = f"{adapter.name} is being loaded"
                yield replace(route, absence=words, is_starting=True, is_expected=True)


def _names(group: Group) -> tuple[str, ...]:
    """Of all that a group serves, without aliases."""
    return (
        *(model.name for _, model in group.served),
        *(adapter.name for adapter in group.adapters),
    )


def _holds(pool: InferencePool) -> dict[str, float]:
    """How long requests wait for models whose groups may have no engine; the longest counts."""
    holds: dict[str, float] = {}
    for group in pool.spec.groups:
        if group.scaling is not None:
            for name in _names(group):
                hold_s = float(group.scaling.hold_s)
                holds[name] = max(hold_s, holds.get(name, 0.0))
    return holds


def _aliases(pool: InferencePool, routes: Mapping[str, ModelRoute]) -> dict[str, ModelRoute]:
    """By every alias. While a group gets another model, those of its engines that still have the
    former one answer for its aliases until the first has the new one."""
    aliases: dict[str, ModelRoute] = {}
    for group in pool.spec.groups:
        for role, model in group.served:
            route = routes[model.name]
            if not route.backends:
                former = (r for r in routes.values() if r.role == role and _is_of(group, r))
                route = next(former, route)
            aliases.update(dict.fromkeys(model.aliases, route))
    return aliases


def _is_of(group: Group, route: ModelRoute) -> bool:
    return any(backend.group == group.name for backend in route.backends)


def _is_expected(pool: InferencePool, model: str, views: Iterable[InstanceView]) -> bool:
    if pool.spec.suspend or pool.spec.source == "cloud":
        return False
    is_wanted = any(
        _keeps_an_engine(group) and any(served.name == model for _, served in group.served)
        for group in pool.spec.groups
    )
    phases = {view.phase for view in views if model in view.models}
    return is_wanted and phases != {"Failed"}


def _keeps_an_engine(group: Group) -> bool:
    if group.scaling is None:
        return group.replicas != 0
    return group.scaling.is_external or group.scaling.least > 0


def _cloud(pool: InferencePool) -> CloudTarget | None:
    cloud = pool.spec.cloud
    if cloud is None or pool.spec.source == "local":
        return None
    prices = cloud.price_per_million_tokens
    return CloudTarget(
        base_url=cloud.base_url,
        models=dict(cloud.models),
        when=frozenset(cloud.when),
        same_space=frozenset(cloud.same_embedding_space),
        price_input=(prices.input or 0.0) if prices is not None else 0.0,
        price_output=(prices.output or 0.0) if prices is not None else 0.0,
    )


def read_scheduling(pool: InferencePool) -> SchedulingSettings:
    """A pool's `spec.scheduling`, times in seconds."""
    wanted = pool.spec.scheduling
    return SchedulingSettings(
        policy=wanted.policy,
        llm_policy=wanted.llm_policy,
        embedding_batch_size=wanted.embedding_batch_size,
        embedding_batch_tokens=wanted.embedding_batch_tokens,
        max_embedding_wait_s=wanted.max_embedding_wait_ms / 1000,
        embedding_priority=wanted.embedding_priority,
        hybrid_instance_ratio=wanted.hybrid_instance_ratio,
        prefer_specialized_instances=wanted.prefer_specialized_instances,
        prefix_affinity=wanted.prefix_affinity,
        queue=QueueLimits(wanted.queue.max_requests, float(wanted.queue.max_wait_seconds)),
        targets=Targets(wanted.slo.chat_ttft_ms / 1000, wanted.slo.embedding_ms / 1000),
    )


def _why_not(instance: InferenceInstance) -> str:
    if instance.spec.drain:
        return "spec.drain is set"
    if instance.metadata.deletion_timestamp is not None:
        return "it is being deleted"
    if not meta.is_true(instance.status.conditions, names.READY):
        ready = meta.find_condition(instance.status.conditions, names.READY)
        return instance.status.message or (ready.message if ready else "not probed yet")
    return ""


def _view(instance: InferenceInstance, reason: str) -> InstanceView:
    return InstanceView(
        name=instance.metadata.name,
        roles=tuple(e.role for e in instance.spec.endpoints),
        models=(
            *(m for e in instance.spec.endpoints for m in e.models),
            *(a.name for a in instance.status.adapters if a.phase == "Loaded"),
        ),
        phase=instance.status.phase,
        routable=not reason,
        reason=reason,
    )


def _backend(instance: InferenceInstance, endpoint: Endpoint, gpus: int) -> Backend:
    url = urlsplit(endpoint.url or "")
    return Backend(
        instance=instance.metadata.name,
        uid=instance.metadata.uid,
        role=endpoint.role,
        engine=instance.spec.engine,
        scheme=url.scheme,
        host=url.hostname or "",
        port=url.port or (443 if url.scheme == "https" else 80),
        prefix=url.path.rstrip("/"),
        models=tuple(endpoint.models),
        limit=instance.spec.max_concurrency,
        device=instance.spec.device or f"instance:{instance.metadata.name}",
        price_per_hour=instance.spec.price_per_hour or 0.0,
        gpus=gpus,
        group=instance.spec.group or "",
    )


def _absence(pool: InferencePool, model: str, views: list[InstanceView]) -> str:
    if pool.spec.suspend:
        return f"pool {pool.metadata.name} is suspended: set spec.suspend to false"
    phases = Counter(v.phase for v in views if model in v.models)
    if not phases:
        return f"no instance of {model} exists yet"
    # Names and addresses of pods are for people with kubectl, not for every client.
    return "its instances are " + ", ".join(f"{phase} ({n})" for phase, n in phases.items())
