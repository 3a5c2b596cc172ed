"""What has to be done for a pool. Pure: the same observation gives the same plan.

    observed ──► wanted objects ──► apply what is missing or has drifted
             │                  └─► delete what is no longer wanted
             ├─► instances: one per engine pod, each judged by its pod and its last probe
             └─► the pool's status, and events where a condition turns

Nothing is remembered between two plans. A step that was not carried out is planned again, so the
operator may be killed anywhere. When everything is as it should be, the plan writes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import (
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    POOLS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
    Object,
)
from sagepool_operator import (
    adapters,
    downloads,
    instance_judging,
    instances,
    judging,
    pruning,
    recorded,
    transitions,
)
from sagepool_operator.autoscaling.replicas import Replicas, hand_over, replicas_of
from sagepool_operator.autoscaling.scene import ScaledGroup, Scene
from sagepool_operator.builders import (
    cache,
    disruption,
    engines,
    identity,
    podspec,
    router,
)
from sagepool_operator.caching import downloads_of, made_claim_of, places_of, pruning_of
from sagepool_operator.config import Images
from sagepool_operator.drift import has_drifted, seal
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.instance_judging import Examined
from sagepool_operator.plan import AdapterTarget, Apply, ApplyStatus, ChildKey, Delete, Plan
from sagepool_operator.routability import gate
from sagepool_operator.router_pods import RouterPod, ready_routers, running_routers
from sagepool_operator.sizing import models_to_size
from sagepool_operator.snapshot import Observed
from sagepool_operator.status import JudgedInstance, differs, pool_status, status_object

_TAKEN_RECHECK_S: Final = 5.0
"""Between two looks at an object of somebody else that bears a name which the pool needs."""


def plan(observed: Observed, now: datetime, images: Images) -> Plan:
    """The next step for a pool."""
    pool = observed.pool
    if pool is not None and pool.metadata.deletion_timestamp is not None:
        return Plan()  # what it owns is garbage-collected
    examined = instance_judging.examine(observed)
    spaces = instance_judging.find_spaces(observed, examined)
    judged = instance_judging.judge_instances(observed, examined, spaces, now)
    if pool is None:
        return Plan(statuses=instances.plan_statuses(observed, judged))
    replicas = _replicas(pool, observed)
    wanted = wanted_children(pool, _templates(pool, observed, images), replicas, images)
    prunes = pruning.keeps(pool, observed, images)
    children = _sort_children(pool, wanted, observed, replicas, {prunes} if prunes else set())
    taken = (*children.taken, *instances.find_taken(pool, observed))
    desired = {group: found.count for group, found in replicas.items()}
    fetched = downloads.judge_downloads(pool, observed)
    facts = judging.pool_facts(pool, observed, judged, fetched, taken, desired)
    facts = replace(facts, adapters=adapters.judge_pool(pool, judged))
    cached = downloads.model_caches(pool, fetched)
    status = pool_status(pool, facts, router.endpoint(pool), judged, spaces, cached, now)
    statuses = instances.plan_statuses(observed, judged)
    if differs(pool.status, status):
        meta = pool.metadata
        obj = status_object(POOLS, meta.namespace, meta.name, meta.uid, status)
        events = transitions.of_pool(pool, status)
        statuses = (*statuses, ApplyStatus(POOLS, obj, events))
    return Plan(
        applies=(
            *children.applies,
            *pruning.plan_pruning(pool, observed, facts.groups, images),
            *instances.plan_instances(pool, observed, now),
        ),
        deletes=children.deletes,
        statuses=statuses,
        gates=tuple(_gates(observed, judged, now)),
        targets=tuple(one.target for one in examined if one.target is not None),
        adapters=tuple(_adapter_targets(pool, examined, judged)),
        routers=_routers_to_ask(observed, judged),
        downloads=tuple(downloads.progress_targets(observed)),
        provider=judging.provider_to_ask(pool),
        models=models_to_size(pool),
        scene=_scene(pool, observed, judged, replicas),
        requeue_after_s=_look_again_s(judged, taken, observed, now),
    )


def child_keys(pool: InferencePool) -> tuple[ChildKey, ...]:
    """The objects that a pool needs, by name."""
    router_name = names.router_name(pool.metadata.name)
    router_kinds = (SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, SERVICES)
    workloads = [router_name, *(_deployment_of(pool, group).name for group in pool.spec.groups)]
    return (
        *(ChildKey(kind, router_name) for kind in router_kinds),
        *((ChildKey(PERSISTENT_VOLUME_CLAIMS, claim),) if (claim := made_claim_of(pool)) else ()),
        *(ChildKey(JOBS, download.name) for download in downloads_of(pool)),
        *((ChildKey(JOBS, prunes.name),) if (prunes := pruning_of(pool)) else ()),
        *(ChildKey(kind, n) for n in workloads for kind in (DEPLOYMENTS, POD_DISRUPTION_BUDGETS)),
    )


def wanted_children(
    pool: InferencePool,
    templates: Mapping[str, Mapping[str, Any]],
    replicas: Mapping[str, Replicas],
    images: Images,
) -> Iterator[tuple[Kind, Object]]:
    """Every object that the pool needs, as it should be, in the order in which to make them.

    `templates` are the groups' pod templates and `replicas` their numbers of pods, by group.
    """
    account, role, binding = router.build_access(pool)
    yield SERVICE_ACCOUNTS, account
    yield ROLES, role
    yield ROLE_BINDINGS, binding
    yield SERVICES, router.build_service(pool)
    claim = cache.build_claim(pool)
    if claim is not None:
        yield PERSISTENT_VOLUME_CLAIMS, claim
    for download in downloads_of(pool):
        yield JOBS, cache.build_job(pool, download, images)
    yield DEPLOYMENTS, router.build_deployment(pool, images)
    labels, selector = identity.router_labels(pool), identity.router_selector(pool)
    name = names.router_name(pool.metadata.name)
    yield POD_DISRUPTION_BUDGETS, disruption.build_budget(pool, name, labels, selector)
    for group in pool.spec.groups:
        template = templates[group.name]
        notes = recorded.record(template, recorded.group_digest(pool, group))
        count = replicas[group.name].count if replicas[group.name].is_ours else None
        yield DEPLOYMENTS, engines.build_deployment(pool, group, template, notes, count)
        labels, selector = identity.group_labels(pool, group), identity.group_selector(pool, group)
        name = _deployment_of(pool, group).name
        spare = group.rollout.max_unavailable
        yield POD_DISRUPTION_BUDGETS, disruption.build_budget(pool, name, labels, selector, spare)


def _templates(
    pool: InferencePool, observed: Observed, images: Images
) -> dict[str, Mapping[str, Any]]:
    """Each group's pod template: the recorded one while the group has not changed."""
    templates: dict[str, Mapping[str, Any]] = {}
    for group in pool.spec.groups:
        template = None
        # Where no pod could even start, there is nothing that a new decision could disturb.
        if not judging.is_without_image(observed, group):
            live = observed.children.get(_deployment_of(pool, group))
            template = recorded.recall(live, recorded.group_digest(pool, group))
        if template is None:
            folders = (place.folder for place in places_of(pool, group))
            engine = build_engine(group, images, *folders)
            template = podspec.build_template(pool, group, engine, images)
        templates[group.name] = template
    return templates


def _replicas(pool: InferencePool, observed: Observed) -> dict[str, Replicas]:
    """How many pods each group should have."""
    return {
        group.name: replicas_of(
            pool,
            group,
            observed.children.get(_deployment_of(pool, group)),
            observed.decisions.get(group.name),
        )
        for group in pool.spec.groups
    }


def _scene(
    pool: InferencePool,
    observed: Observed,
    judged: Sequence[JudgedInstance],
    replicas: Mapping[str, Replicas],
) -> Scene | None:
    """What the autoscaler has to look at; None where nothing is scaled by it."""
    if pool.spec.suspend or pool.spec.source == "cloud":
        return None
    groups = tuple(
        ScaledGroup(
            group.name,
            group.scaling,
            replicas[group.name].count,
            tuple(one.ready_since for one in judged if one.group == group.name and one.is_ready),
        )
        for group in pool.spec.groups
        if group.scaling is not None and not group.scaling.is_external
    )
    if not groups:
        return None
    return Scene(running_routers(observed.pods), groups)


def _deployment_of(pool: InferencePool, group: Group) -> ChildKey:
    return ChildKey(DEPLOYMENTS, names.group_name(pool.metadata.name, group.name))


@dataclass(frozen=True, slots=True)
class _Children:
    """What to do about the objects of a pool."""

    applies: tuple[Apply, ...]
    deletes: tuple[Delete, ...]
    taken: tuple[str, ...]


def _sort_children(
    pool: InferencePool,
    wanted: Iterator[tuple[Kind, Object]],
    observed: Observed,
    replicas: Mapping[str, Replicas],
    keys: set[ChildKey],
) -> _Children:
    """`keys` are of objects that stay and are looked after elsewhere."""
    reasons = {names.group_name(pool.metadata.name, g): r.reason for g, r in replicas.items()}
    applies, taken, keys = [], [], set(keys)
    for kind, obj in wanted:
        key = ChildKey(kind, obj["metadata"]["name"])
        live = observed.children.get(key)
        if kind == JOBS and live is not None and cache.is_outdated(obj, live):
            continue  # it goes as one that is not wanted, and is made anew
        keys.add(key)
        if live is not None and _is_left_alone(pool, kind, live):
            continue
        if pruning.is_in_the_way(observed, kind, obj):
            continue  # it is made once that is out of the way
        sealed = seal(obj)
        if live is None:
            applies.append(Apply(kind, sealed, transitions.of_child(pool, kind, sealed, None)))
        elif not _is_ours(pool, kind, live):
            taken.append(f"{key} is there already{_owner_in_words(live)}")
        elif not _is_leaving(live) and has_drifted(sealed, live):
            if kind == DEPLOYMENTS and "replicas" not in sealed["spec"]:
                applies.extend(_hand_over(live))
            why = reasons.get(key.name, "")
            events = transitions.of_child(pool, kind, sealed, live, why)
            applies.append(Apply(kind, sealed, events))
    deletes = [
        Delete(
            key.kind,
            observed.key.namespace,
            key.name,
            live["metadata"]["uid"],
            transitions.of_removal(pool, key),
        )
        for key, live in observed.children.items()
        if key not in keys
        and identity.is_owned_by(live, pool.metadata.uid)
        and not _is_leaving(live)
    ]
    return _Children(tuple(applies), tuple(deletes), tuple(taken))


def _is_left_alone(pool: InferencePool, kind: Kind, live: Object) -> bool:
    """Whether it does for the pool as it is, whoever has made it."""
    if kind == PERSISTENT_VOLUME_CLAIMS:
        return not _is_ours(pool, kind, live)
    # A Job's template can never change.
    return kind == JOBS and _is_ours(pool, kind, live)


def _is_ours(pool: InferencePool, kind: Kind, live: Object) -> bool:
    if kind == PERSISTENT_VOLUME_CLAIMS:  # it has no owner, for it outlives the pool
        labels: Mapping[str, str] = live["metadata"].get("labels") or {}
        return labels.get(names.POOL_LABEL) == pool.metadata.name
    return identity.is_owned_by(live, pool.metadata.uid)


def _hand_over(live: Object) -> Iterator[Apply]:
    """Leaves a Deployment's replicas to others as they are."""
    part = hand_over(live)
    if part is not None:
        yield Apply(DEPLOYMENTS, part, manager=names.SCALE_MANAGER)


def _gates(
    observed: Observed, judged: Sequence[JudgedInstance], now: datetime
) -> Iterator[ApplyStatus]:
    routable = [
        one.instance.metadata.name
        for one in judged
        if one.verdict.routable is not None and one.verdict.routable.is_true
    ]
    return gate.open_gates(observed.key.namespace, observed.pods, routable, now)


def _routers_to_ask(observed: Observed, judged: Sequence[JudgedInstance]) -> tuple[RouterPod, ...]:
    """All that clients reach, while an engine waits for them; else none."""
    ready = {one.instance.metadata.name: one.verdict.ready for one in judged if one.group}
    if any(pod.name in ready and gate.is_waiting(pod, ready[pod.name]) for pod in observed.pods):
        return ready_routers(observed.pods)
    return ()


def _look_again_s(
    judged: Sequence[JudgedInstance], taken: Sequence[str], observed: Observed, now: datetime
) -> float | None:
    """When a load that was held back is due, or a pod has been without an address for too long;
    while a name is taken, soon: nothing wakes us then."""
    waits = [j.recheck_after_s for j in judged if j.recheck_after_s is not None]
    addresses = (instances.address_wait_s(pod, now) for pod in observed.pods if pod.group)
    waits += [wait_s for wait_s in addresses if wait_s > 0]
    return min((*waits, _TAKEN_RECHECK_S) if taken else waits, default=None)


def _adapter_targets(
    pool: InferencePool, examined: Sequence[Examined], judged: Sequence[JudgedInstance]
) -> Iterator[AdapterTarget]:
    """Engines that answer and take adapters."""
    for one, verdict in zip(examined, (j.verdict for j in judged), strict=True):
        pod, engine = one.pod, one.target
        if pod is None or engine is None or not pod.takes_adapters or not verdict.engine.is_true:
            continue
        target = adapters.target_of(pool, pod, engine)
        if target is not None:
            yield target


def _owner_in_words(live: Object) -> str:
    owner = next(iter(live["metadata"].get("ownerReferences") or ()), None)
    return f", owned by {owner['kind']} {owner['name']}" if owner is not None else ""


def _is_leaving(live: Object) -> bool:
    return "deletionTimestamp" in live["metadata"]
