"""The pool and its instances as last seen, and what changed from one sight to the next. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sagepool_crds import meta, names
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import GroupStatus, InferencePool
from sagepool_demo.manifests import Manifest


@dataclass(frozen=True, slots=True)
class World:
    """One pool and the instances beside it."""

    name: str
    """The pool's name."""
    pool: InferencePool | None = None
    instances: Mapping[str, InferenceInstance] = field(default_factory=dict)

    def after(self, change: str, manifest: Manifest) -> "World":
        """The world after an event of a watch (ADDED, MODIFIED, DELETED) on one of the kinds."""
        name = manifest["metadata"]["name"]
        is_gone = change == "DELETED"
        if manifest["kind"] == names.POOL_KIND:
            if name != self.name:
                return self
            return replace(self, pool=None if is_gone else InferencePool.from_object(manifest))
        others = {key: value for key, value in self.instances.items() if key != name}
        if not is_gone:
            others[name] = InferenceInstance.from_object(manifest)
        return replace(self, instances=others)

    def is_ready(self, generation: int = 0) -> bool:
        """Whether the pool, at this generation or later, is Ready by a status of its own spec."""
        pool = self.pool
        return (
            pool is not None
            and pool.metadata.generation >= generation
            and pool.status.observed_generation == pool.metadata.generation
            and meta.is_true(pool.status.conditions, names.READY)
        )

    def group(self, name: str) -> GroupStatus | None:
        """The status of a group, or None while there is none."""
        groups = self.pool.status.groups if self.pool else ()
        return next((group for group in groups if group.name == name), None)

    def ready_instances(self, group: str) -> frozenset[str]:
        """Names of the group's instances that may be sent to."""
        return frozenset(
            name
            for name, instance in self.instances.items()
            if instance.spec.group == group
            and instance.metadata.deletion_timestamp is None
            and instance.status.phase == "Ready"
        )

    def is_settled(self, group: str, replicas: int) -> bool:
        """Whether the group runs that many engines, all ready, and no other is still there."""
        ready = self.ready_instances(group)
        mine = [i for i in self.instances.values() if i.spec.group == group]
        return self.is_ready() and len(ready) == len(mine) == replicas


def describe_changes(before: World, after: World) -> Iterator[str]:
    """What a person wants to hear of the difference, a line each."""
    for name in sorted({*before.instances, *after.instances}):
        was, now = _instance_words(before, name), _instance_words(after, name)
        if was != now:
            yield f"engine {name}  {now or 'gone'}"
    for group in after.pool.status.groups if after.pool else ():
        if _group_words(before.group(group.name)) != _group_words(group):
            yield f"group {group.name}  {_group_words(group)}"
    if _pool_words(before) != _pool_words(after):
        yield f"pool {after.name}  {_pool_words(after) or 'gone'}"


def _instance_words(world: World, name: str) -> str:
    instance = world.instances.get(name)
    if instance is None:
        return ""
    return _join(instance.status.phase, instance.status.message)


def _group_words(group: GroupStatus | None) -> str:
    if group is None:
        return ""
    return _join(f"{group.ready} of {group.desired} engines ready", group.message)


def _pool_words(world: World) -> str:
    if world.pool is None:
        return ""
    ready = meta.find_condition(world.pool.status.conditions, names.READY)
    if ready is None:
        return "seen, no status yet"
    return _join("Ready" if ready.status == "True" else ready.reason, ready.message)


def _join(state: str, message: str) -> str:
    return f"{state}: {message}" if message else state
