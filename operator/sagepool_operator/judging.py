"""From what was observed to the facts that a pool's conditions are judged by. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.meta import ConditionStatus, find_condition
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import DEPLOYMENTS, Object
from sagepool_operator import downloads
from sagepool_operator.conditions import Elsewhere, GroupFacts, PoolFacts, judge_cloud, judge_fit
from sagepool_operator.downloads import DownloadFacts
from sagepool_operator.instance_conditions import (
    Judgement,
)
from sagepool_operator.plan import ChildKey
from sagepool_operator.pods import PodFacts
from sagepool_operator.problems import (
    OWN_IMAGE_FIELD,
    PULL_SECRETS_SETTING,
    Problem,
    Workload,
    find_problem,
    find_refusal,
)
from sagepool_operator.reports import ProviderReport
from sagepool_operator.sizing import models_to_size, size_group
from sagepool_operator.snapshot import Observed
from sagepool_operator.status import JudgedInstance

_CLAIMS: Final[Mapping[ConditionStatus, bool | None]] = {
    "True": True,
    "False": False,
    "Unknown": None,
}


def is_without_image(observed: Observed, group: Group) -> bool:
    """Whether none of the group's pods runs, and one cannot get its image."""
    pods = [pod for pod in observed.pods if pod.group == group.name and not pod.is_deleting]
    if any(pod.is_running for pod in pods):
        return False
    work = workload_of(observed.pool, group.name)
    return any(problem.reason == "ImagePullFailed" for problem in _problems(pods, work))


def pool_facts(
    pool: InferencePool,
    observed: Observed,
    judged: Sequence[JudgedInstance],
    fetched: Sequence[DownloadFacts],
    taken: Sequence[str],
    desired: Mapping[str, int],
) -> PoolFacts:
    """What judging the pool needs; `desired` are the engines that each group should have."""
    return PoolFacts(
        name=pool.metadata.name,
        is_suspended=pool.spec.suspend,
        groups=tuple(
            _group_facts(pool, group, observed, judged, desired[group.name])
            for group in pool.spec.groups
        ),
        router=_router_facts(pool, observed),
        elsewhere=tuple(
            Elsewhere(one.instance.metadata.name, one.verdict.ready)
            for one in judged
            # One that its owner has taken out of use is not missed.
            if not one.group and one.verdict.ready.reason not in ("Draining", "DrainRequested")
        ),
        provider=_provider(pool),
        cloud=_judge_cloud(pool, observed.provider),
        fit=_judge_fit(pool, observed),
        caching=downloads.judge_caching(pool, observed, fetched),
        unmapped=tuple(dict.fromkeys(_unmapped(pool))),
        taken=tuple(taken),
        refused=observed.refused,
    )


def _provider(pool: InferencePool) -> str:
    cloud = pool.spec.cloud
    return cloud.base_url if pool.spec.source == "cloud" and cloud is not None else ""


def provider_to_ask(pool: InferencePool) -> str:
    """Address of the provider, where requests may go to it; empty where they may not."""
    cloud = pool.spec.cloud
    if cloud is None or pool.spec.source == "local" or pool.spec.suspend:
        return ""
    return cloud.base_url


def _judge_cloud(pool: InferencePool, report: ProviderReport | None) -> Judgement | None:
    """What asking the provider has shown; until then, what an earlier operator has left."""
    asked = provider_to_ask(pool)
    if not asked:
        return None
    if report is not None and report.base_url == asked:
        return judge_cloud(asked, report.error)
    return _inherit(pool, names.CLOUD_REACHABLE)


def _judge_fit(pool: InferencePool, observed: Observed) -> Judgement | None:
    if any(model not in observed.configs for model in models_to_size(pool)):
        return _inherit(pool, names.MODELS_FIT)
    fits = (fit for group in pool.spec.groups for fit in size_group(group, observed.configs))
    return judge_fit(list(fits))


def _inherit(pool: InferencePool, type_: str) -> Judgement | None:
    """What an earlier operator has said of this very spec."""
    old = find_condition(pool.status.conditions, type_)
    if old is None or old.observed_generation != pool.metadata.generation:
        return None
    return Judgement(_CLAIMS[old.status], old.reason, old.message)


def _unmapped(pool: InferencePool) -> Iterator[str]:
    if pool.spec.cloud is not None:
        for group in pool.spec.groups:
            for _, model in group.served:
                if model.name not in pool.spec.cloud.models:
                    yield model.name


# Workloads.


def workload_of(pool: InferencePool | None, group_name: str) -> Workload:
    """The group of the pool in words, for what its pods have against running."""
    group = next((g for g in pool.spec.groups if g.name == group_name), None) if pool else None
    gpu = group.gpu.resource_name if group is not None and group.gpu is not None else ""
    place = f"service account default, or name one in the operator's setting {PULL_SECRETS_SETTING}"
    return Workload(f"group {group_name}", f"engine.image of group {group_name}", place, gpu)


def _router_workload(pool: InferencePool) -> Workload:
    secrets = []
    if (auth := pool.spec.router.auth) is not None:
        secrets.append(f"Secret {auth.api_keys_secret} (router.auth.apiKeysSecret)")
    if (cloud := pool.spec.cloud) is not None:
        key = cloud.api_key_secret
        secrets.append(f"Secret {key.name} with key {key.key} (cloud.apiKeySecret)")
    return Workload(
        "the router",
        OWN_IMAGE_FIELD,
        f"service account {names.router_name(pool.metadata.name)}, or name one in the operator's "
        f"setting {PULL_SECRETS_SETTING}",
        secrets=" and ".join(secrets),
    )


def _group_facts(
    pool: InferencePool,
    group: Group,
    observed: Observed,
    judged: Sequence[JudgedInstance],
    desired: int,
) -> GroupFacts:
    name = names.group_name(pool.metadata.name, group.name)
    mine = [one for one in judged if one.group == group.name]
    pods = [pod for pod in observed.pods if pod.group == group.name]
    live = observed.children.get(ChildKey(DEPLOYMENTS, name))
    return _workload_facts(
        group.name,
        desired,
        sum(one.is_ready for one in mine),
        live,
        _workload_problem(live, pods, workload_of(pool, group.name)) or _engine_problem(mine),
    )


def _router_facts(pool: InferencePool, observed: Observed) -> GroupFacts:
    name = names.router_name(pool.metadata.name)
    live = observed.children.get(ChildKey(DEPLOYMENTS, name))
    status = _status_of(live)
    pods = [pod for pod in observed.pods if not pod.group]
    return _workload_facts(
        "router",
        pool.spec.router.replicas,
        int(status.get("readyReplicas", 0)),
        live,
        _workload_problem(live, pods, _router_workload(pool)),
    )


def _workload_facts(
    name: str, desired: int, ready: int, live: Object | None, problem: Problem | None
) -> GroupFacts:
    status = _status_of(live)
    meta: Mapping[str, Any] = live["metadata"] if live is not None else {}
    is_current = status.get("observedGeneration", 0) >= meta.get("generation", 0)
    return GroupFacts(
        name=name,
        desired=desired,
        # A rollout has one engine more than asked for.
        ready=min(ready, desired),
        updated=min(int(status.get("updatedReplicas", 0)), desired) if is_current else 0,
        existing=int(status.get("replicas", 0)),
        is_gated=int(status.get("readyReplicas", 0)) < min(ready, desired),
        is_stuck=any(
            c["type"] == "Progressing" and c["status"] == "False"
            for c in status.get("conditions") or ()
        ),
        problem=problem,
    )


def _status_of(live: Object | None) -> Mapping[str, Any]:
    return (live.get("status") or {}) if live is not None else {}


def _workload_problem(
    live: Object | None, pods: Sequence[PodFacts], work: Workload
) -> Problem | None:
    # A refusal comes first: a pod that failed would say that a new one takes its place.
    refusal = find_refusal(_status_of(live).get("conditions") or (), work)
    return refusal or next(_problems(pods, work), None)


def _problems(pods: Sequence[PodFacts], work: Workload) -> Iterator[Problem]:
    for pod in sorted(pods, key=lambda p: p.name):
        if not pod.is_deleting and (problem := find_problem(pod, work)) is not None:
            yield problem


def _engine_problem(judged: Sequence[JudgedInstance]) -> Problem | None:
    """Of an engine that runs but does not serve what it should."""
    for one in judged:
        if one.verdict.phase == "Failed":
            ready = one.verdict.ready
            return Problem(ready.reason, f"{one.instance.metadata.name}: {ready.message}")
    return None
