"""From what was observed to what is judged of each instance, and what is probed for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Examined:
    """An instance with what belongs to it."""

    seen: SeenInstance
    pod: PodFacts | None
    """None where there is none: it runs elsewhere, or the pod is gone."""
    target: Target | None
    """What to probe for it; None while nothing can answer there."""
    report: Report | None
    """What probing has shown of its engine, in this operator's time or in an earlier one's."""


def examine(observed: Observed) -> tuple[Examined, ...]:
    """Every instance of the pool, in the order in which they were observed."""
    pods = {pod.uid: pod for pod in observed.pods}
    return tuple(_examine(seen, pods.get(seen.pod_uid), observed) for seen in observed.instances)


def judge_instances(
    observed: Observed,
    examined: Sequence[Examined],
    spaces: Mapping[str, ModelSpace],
    now: datetime,
) -> list[JudgedInstance]:
    """Every instance with the status that it should have.

    `spaces` are the embedding spaces that the pool serves its models in.
    """
    claims = _claims(observed)
    routers = ready_routers(observed.pods)
    return [_judge(one, observed, claims, spaces, routers, now) for one in examined]


def find_spaces(observed: Observed, examined: Sequence[Examined]) -> dict[str, ModelSpace]:
    """The embedding space that the pool serves each model in, where it is known."""
    if observed.pool is None:
        return {}
    heard = (_speaker(one) for one in examined)
    return agree_on_spaces(observed.pool, [speaker for speaker in heard if speaker is not None])


def _examine(seen: SeenInstance, pod: PodFacts | None, observed: Observed) -> Examined:
    target = _target(seen, pod, observed)
    report = observed.reports.get(target.key) if target is not None else None
    if target is not None and report is None and not (pod and pod.started_at is None):
        report = inherit(seen.instance.status, pod.started_at if pod else None)
    return Examined(seen, pod, target, report)


def _target(seen: SeenInstance, pod: PodFacts | None, observed: Observed) -> Target | None:
    spec = seen.instance.spec
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
    one: Examined,
    observed: Observed,
    claims: "_Claims",
    spaces: Mapping[str, ModelSpace],
    routers: Sequence[RouterPod],
    now: datetime,
) -> JudgedInstance:
    seen, pod = one.seen, one.pod
    instance = seen.instance
    speaker = _speaker(one)
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
            probed=_probed(one.report),
            rival="" if seen.pod_uid else _rival(seen, claims, observed.key.name),
            strange_space=tell_strange(speaker, spaces) if speaker is not None else "",
        )
    )
    if pod is not None:
        routable = gate.judge_routable(pod, verdict.ready, routers, observed.answers)
        verdict = replace(verdict, routable=routable)
        if pod.takes_adapters and verdict.engine.is_true and one.target is not None:
            told, before = observed.adapters.get(one.target.key), instance.status.adapters
            found = adapters.judge_engine(observed.pool, pod, told, before)
            verdict = replace(verdict, adapters=found)
    status, recheck = instance_status(instance, verdict, one.report, now)
    group = (instance.spec.group or "") if seen.pod_uid else ""
    return JudgedInstance(instance, group, verdict, status, recheck)


def _speaker(one: Examined) -> Speaker | None:
    if one.report is None or one.report.space is None:
        return None
    instance = one.seen.instance
    return Speaker(
        instance=instance.metadata.name,
        models=tuple(m for e in instance.spec.endpoints if e.role == "embedding" for m in e.models),
        space=one.report.space,
        source=one.pod.embedding_source if one.pod is not None else "",
        is_ready=is_true(instance.status.conditions, names.READY),
    )


def _probed(report: Report | None) -> Probed | None:
    return Probed(report.verdict, report.message, report.was_ready) if report else None


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
