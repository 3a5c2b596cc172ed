"""From what was observed to what is judged of each instance, and what is probed for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sagepool_crds import names
from sagepool_crds.instance import Endpoint
from sagepool_crds.meta import is_true
from sagepool_crds.pool import Role
from sagepool_crds.space import ModelSpace
from sagepool_operator import adapters
from sagepool_operator.drift import digest
from sagepool_operator.instance_conditions import InstanceFacts, Probed, judge_instance
from sagepool_operator.judging import workload_of
from sagepool_operator.plan import Target
from sagepool_operator.pods import PodFacts
from sagepool_operator.problems import find_problem
from sagepool_operator.reports import Report, inherit
from sagepool_operator.routability import gate
from sagepool_operator.router_pods import RouterPod, ready_routers
from sagepool_operator.snapshot import Observed, SeenInstance
from sagepool_operator.spaces import Speaker, agree_on_spaces, tell_strange
from sagepool_operator.status import JudgedInstance, instance_status


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
            problem=find_problem(pod, workload_of(observed.pool, pod.group)) if pod else None,
            is_elsewhere=not seen.pod_uid,
            awaits_model=pod is not None and pod.awaits_model,
            is_starting=pod is not None and not _is_up(pod, instance.spec.endpoints),
            has_restarted=pod is not None and pod.restarts > 0,
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
