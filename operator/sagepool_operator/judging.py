"""From what was observed to the facts that conditions are judged by. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.instance import Endpoint
from sagepool_crds.meta import ConditionStatus, find_condition, is_true
from sagepool_crds.pool import Group, InferencePool, Role
from sagepool_crds.space import ModelSpace
from sagepool_kube.api import DEPLOYMENTS, Object
from sagepool_operator import adapters, downloads
from sagepool_operator.conditions import Elsewhere, GroupFacts, PoolFacts, judge_cloud, judge_fit
from sagepool_operator.drift import digest
from sagepool_operator.instance_conditions import (
    InstanceFacts,
    Judgement,
    Probed,
    judge_instance,
)
from sagepool_operator.plan import ChildKey, Target
from sagepool_operator.pods import PodFacts
from sagepool_operator.problems import (
    OWN_IMAGE_FIELD,
    PULL_SECRETS_SETTING,
    Problem,
    Workload,
    find_problem,
    find_refusal,
)
from sagepool_operator.reports import ProviderReport, Report, inherit
from sagepool_operator.routability import gate
from sagepool_operator.router_pods import RouterPod, ready_routers
from sagepool_operator.sizing import models_to_size, size_group
from sagepool_operator.snapshot import Observed, SeenInstance
from sagepool_operator.spaces import Speaker, agree_on_spaces, tell_strange
from sagepool_operator.status import JudgedInstance, instance_status

_CLAIMS: Final[Mapping[ConditionStatus, bool | None]] = {
    "True": True,
    "False": False,
    "Unknown": None,
}


def judge_instances(
    observed: Observed, spaces: Mapping[str, ModelSpace], now: datetime
) -> list[JudgedInstance]:
    """Every instance of the pool with the status that it should have.

    `spaces` are the embedding spaces that the pool serves its models in.
    """
    claims = _claims(observed)
    routers = ready_routers(observed.pods)
    return [_judge(seen, observed, claims, spaces, routers, now) for seen in observed.instances]


def find_spaces(observed: Observed) -> dict[str, ModelSpace]:
    """The embedding space that the pool serves each model in, where it is known."""
    if observed.pool is None:
        return {}
    heard = (_speaker(seen, observed) for seen in observed.instances)
    return agree_on_spaces(observed.pool, [speaker for speaker in heard if speaker is not None])


def target_of(seen: SeenInstance, observed: Observed) -> Target | None:
    """What to probe for an instance; None while nothing can answer there."""
    spec = seen.instance.spec
    pod = _pod_of(seen, observed)
    if observed.pool is None or _is_leaving(seen, pod):
        return None
    endpoints = tuple(spec.endpoints)
    if pod is not None and not _is_up(pod, endpoints):
        return None
    return Target(
        namespace=observed.key.namespace,
        instance=seen.instance.metadata.name,
        uid=seen.instance.metadata.uid,
        incarnation=digest(
            [pod.restarts if pod else 0, spec.engine, [e.to_object() for e in endpoints]]
        ),
        engine=spec.engine,
        endpoints=endpoints,
    )


def is_without_image(observed: Observed, group: Group) -> bool:
    """Whether none of the group's pods runs, and one cannot get its image."""
    pods = [pod for pod in observed.pods if pod.group == group.name and not pod.is_deleting]
    if any(pod.is_running for pod in pods):
        return False
    work = _workload(observed.pool, group.name)
    return any(problem.reason == "ImagePullFailed" for problem in _problems(pods, work))


def pool_facts(
    pool: InferencePool,
    observed: Observed,
    judged: Sequence[JudgedInstance],
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
        caching=downloads.judge_caching(pool, observed),
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
    sized = (size_group(group, observed.configs) for group in pool.spec.groups)
    return judge_fit([fit for fit in sized if fit is not None])


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


def _judge(
    seen: SeenInstance,
    observed: Observed,
    claims: "_Claims",
    spaces: Mapping[str, ModelSpace],
    routers: Sequence[RouterPod],
    now: datetime,
) -> JudgedInstance:
    instance = seen.instance
    pod = _pod_of(seen, observed)
    report = _report_of(seen, observed)
    speaker = _speaker(seen, observed)
    verdict = judge_instance(
        InstanceFacts(
            pool=observed.key.name,
            pool_exists=observed.pool is not None,
            is_leaving=_is_leaving(seen, pod),
            drain=instance.spec.drain,
            problem=find_problem(pod, _workload(observed.pool, pod.group)) if pod else None,
            is_elsewhere=not seen.pod_uid,
            awaits_model=pod is not None and pod.awaits_model,
            is_starting=pod is not None and not _is_up(pod, instance.spec.endpoints),
            probed=_probed(report),
            rival="" if seen.pod_uid else _rival(seen, claims, observed.key.name),
            strange_space=tell_strange(speaker, spaces) if speaker is not None else "",
        )
    )
    if pod is not None:
        routable = gate.judge_routable(pod, verdict.ready, routers, observed.answers)
        verdict = replace(verdict, routable=routable)
        if pod.takes_adapters and verdict.engine.is_true and (target := target_of(seen, observed)):
            told, before = observed.adapters.get(target.key), instance.status.adapters
            found = adapters.judge_engine(observed.pool, pod, told, before)
            verdict = replace(verdict, adapters=found)
    status, recheck = instance_status(instance, verdict, report, now)
    group = (instance.spec.group or "") if seen.pod_uid else ""
    return JudgedInstance(instance, group, verdict, status, recheck)


def _report_of(seen: SeenInstance, observed: Observed) -> Report | None:
    """What probing has shown of its engine, in this operator's time or in an earlier one's."""
    target = target_of(seen, observed)
    if target is None:
        return None
    report = observed.reports.get(target.key)
    pod = _pod_of(seen, observed)
    if report is None and not (pod and pod.started_at is None):
        report = inherit(seen.instance.status, pod.started_at if pod else None)
    return report


def _speaker(seen: SeenInstance, observed: Observed) -> Speaker | None:
    report = _report_of(seen, observed)
    if report is None or report.space is None:
        return None
    spec, pod = seen.instance.spec, _pod_of(seen, observed)
    return Speaker(
        instance=seen.instance.metadata.name,
        models=tuple(m for e in spec.endpoints if e.role == "embedding" for m in e.models),
        space=report.space,
        source=pod.embedding_source if pod is not None else "",
        is_ready=is_true(seen.instance.status.conditions, names.READY),
    )


def _probed(report: Report | None) -> Probed | None:
    return Probed(report.verdict, report.message, report.was_ready) if report else None


def _pod_of(seen: SeenInstance, observed: Observed) -> PodFacts | None:
    return next((pod for pod in observed.pods if pod.uid == seen.pod_uid), None)


def _is_up(pod: PodFacts, endpoints: Sequence[Endpoint]) -> bool:
    """Whether the pod's container runs and its instance has the address."""
    return pod.is_running and all(endpoint.url is not None for endpoint in endpoints)


def _is_leaving(seen: SeenInstance, pod: PodFacts | None) -> bool:
    if seen.instance.metadata.deletion_timestamp is not None:
        return True
    # An instance whose pod is gone is about to be garbage-collected.
    return bool(seen.pod_uid) and (pod is None or pod.is_deleting)


# Model names: a name means one role in a pool. Groups come first, then instances by name.

_Claims = dict[str, tuple[Role, str, str]]
"""Model name to role, claimant in words, and the claimant's instance (empty for a group)."""


def _claims(observed: Observed) -> _Claims:
    claims: _Claims = {}
    for group in observed.pool.spec.groups if observed.pool is not None else ():
        for role, served in group.served:
            for name in (served.name, *served.aliases):
                claims.setdefault(name, (role, f"group {group.name}", ""))
    for seen in observed.instances:
        if seen.pod_uid:
            continue
        name = seen.instance.metadata.name
        for endpoint in seen.instance.spec.endpoints:
            for model in endpoint.models:
                claims.setdefault(model, (endpoint.role, f"instance {name}", name))
    return claims


def _rival(seen: SeenInstance, claims: _Claims, pool: str) -> str:
    for endpoint in seen.instance.spec.endpoints:
        for model in endpoint.models:
            role, claimant, instance = claims[model]
            if role != endpoint.role and instance != seen.instance.metadata.name:
                return (
                    f"model name {model} belongs to {claimant} of pool {pool}, which serves it "
                    f"with role {role}: serve this one under another name"
                )
    return ""


# Workloads.


def _workload(pool: InferencePool | None, group_name: str) -> Workload:
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
        _workload_problem(live, pods, _workload(pool, group.name)) or _engine_problem(mine),
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
        ready=min(ready, desired),  # a rollout has one engine more than asked for
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
