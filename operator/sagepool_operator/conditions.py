"""What is wrong, and the next step. Pure.

A judgement is made by an ordered list of checks: each looks at the facts and either speaks or
passes. The first that speaks is the answer; its reason and message become the condition, the
column of `kubectl get` and the event. So the order below is the order in which a person should
be told: first what only they can repair, last what passes by itself.

    a pod        POD_CHECKS (problems.py)   why its container does not run
    an instance  INSTANCE_CHECKS            why its engine gets no requests
    a pool       READY_CHECKS               why not all of its engines answer
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sagepool_crds.instance import Phase
from sagepool_engines.probe import Verdict
from sagepool_operator.problems import NOT_MOUNTED, Problem, first


@dataclass(frozen=True, slots=True)
class Judgement:
    """A condition's status, reason and message."""

    is_true: bool
    reason: str
    message: str


# --- An instance ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probed:
    """What probing the engine has shown."""

    verdict: Verdict
    message: str
    was_ready: bool
    """It has been ready before, in the same container."""


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What judging an instance needs."""

    pool: str
    pool_exists: bool
    is_leaving: bool
    """It, or its pod, is being deleted or is gone already."""
    drain: bool
    problem: Problem | None
    """Of its pod."""
    is_elsewhere: bool
    """A person wrote it: its engine runs in no pod of ours."""
    is_starting: bool
    """The container of its pod does not run yet."""
    probed: Probed | None
    """None before the first probe."""
    rival: str
    """Who serves its model name in another role, in words; empty when nobody does."""
    strange_space: str = ""
    """How its embeddings differ from those of its pool, in words; empty when they do not."""


@dataclass(frozen=True, slots=True)
class InstanceVerdict:
    """An instance's phase and conditions."""

    phase: Phase
    engine: Judgement
    ready: Judgement


@dataclass(frozen=True, slots=True)
class _Finding:
    phase: Phase
    reason: str
    message: str


_InstanceCheck: TypeAlias = Callable[[InstanceFacts], _Finding | None]


def _leaving(facts: InstanceFacts) -> _Finding | None:
    if not facts.is_leaving:
        return None
    return _Finding("Draining", "Draining", "it is being deleted: requests under way may finish")


def _no_pool(facts: InstanceFacts) -> _Finding | None:
    if facts.pool_exists:
        return None
    return _Finding(
        "Failed",
        "PoolNotFound",
        f"InferencePool {facts.pool} does not exist in this namespace: create it, or delete this "
        "instance and make it anew with the right poolRef",
    )


def _pod_problem(facts: InstanceFacts) -> _Finding | None:
    if facts.problem is None:
        return None
    waits = facts.problem.reason == "Unschedulable"
    return _Finding("Pending" if waits else "Failed", facts.problem.reason, facts.problem.message)


def _starting(facts: InstanceFacts) -> _Finding | None:
    if not facts.is_starting:
        return None
    return _Finding("Pending", "Starting", "the container of its pod is being started")


def _not_probed(facts: InstanceFacts) -> _Finding | None:
    if facts.probed is not None:
        return None
    return _Finding("Pending", "NotProbedYet", "the engine has not been asked yet")


def _no_address(facts: InstanceFacts) -> _Finding | None:
    if facts.probed is None or facts.probed.verdict != "NoAddress":
        return None
    return _Finding("Pending", "NoAddress", facts.probed.message)


def _silent_elsewhere(facts: InstanceFacts) -> _Finding | None:
    if not facts.is_elsewhere or facts.probed is None or not _is_silent(facts.probed):
        return None
    # We have started nothing there, so there is nothing to wait for.
    return _Finding(
        "Failed",
        facts.probed.verdict,
        f"{facts.probed.message}: see that an engine runs there, and check spec.endpoints[].url",
    )


def _loading(facts: InstanceFacts) -> _Finding | None:
    if facts.probed is None or facts.probed.was_ready or not _is_silent(facts.probed):
        return None
    message = f"the engine does not answer yet, it may be loading: {facts.probed.message}"
    return _Finding("Loading", "EngineLoading", message)


def _is_silent(probed: Probed) -> bool:
    return probed.verdict in ("Unreachable", "Unhealthy")


def _broken(facts: InstanceFacts) -> _Finding | None:
    if facts.probed is None or facts.probed.verdict == "EngineReady":
        return None
    return _Finding("Failed", facts.probed.verdict, facts.probed.message)


def _rivalled(facts: InstanceFacts) -> _Finding | None:
    if not facts.rival:
        return None
    return _Finding("Failed", "ModelNameTaken", facts.rival)


def _strange(facts: InstanceFacts) -> _Finding | None:
    if not facts.strange_space:
        return None
    return _Finding("Failed", "OtherEmbeddingSpace", facts.strange_space)


def _drained(facts: InstanceFacts) -> _Finding | None:
    if not facts.drain:
        return None
    return _Finding(
        "Draining", "DrainRequested", "spec.drain is set: set it to false to send requests again"
    )


ENGINE_CHECKS: Final[Sequence[_InstanceCheck]] = (
    _pod_problem,
    _starting,
    _not_probed,
    _no_address,
    _silent_elsewhere,
    _loading,
    _broken,
)
"""Whether the engine itself can answer."""
INSTANCE_CHECKS: Final[Sequence[_InstanceCheck]] = (
    _leaving,
    _no_pool,
    *ENGINE_CHECKS,
    _rivalled,
    _strange,
    _drained,
)
"""Whether requests are sent to it."""


REFUSALS: Final = frozenset({"ModelNameTaken", "OtherEmbeddingSpace"})
"""Reasons why an engine that answers gets no requests until a person acts."""


def judge_instance(facts: InstanceFacts) -> InstanceVerdict:
    """Whether the engine answers, and whether it may be sent requests."""
    engine = first(ENGINE_CHECKS, facts)
    ready = first(INSTANCE_CHECKS, facts)
    return InstanceVerdict(
        phase=ready.phase if ready else "Ready",
        engine=_judgement(engine, "EngineReady", "the engine answers"),
        ready=_judgement(ready, "Ready", "requests are sent to it"),
    )


def _judgement(finding: _Finding | None, reason: str, message: str) -> Judgement:
    if finding is None:
        return Judgement(True, reason, message)
    return Judgement(False, finding.reason, finding.message)


# --- A pool -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group, or the router, as far as judging the pool needs."""

    name: str
    desired: int
    ready: int
    updated: int
    """Pods built from the present template."""
    existing: int
    """All pods, those that a rollout still has to replace included."""
    is_stuck: bool = False
    """The Deployment has given up waiting for progress."""
    problem: Problem | None = None

    @property
    def is_short(self) -> bool:
        """Fewer engines answer than should."""
        return self.ready < self.desired

    @property
    def is_moving(self) -> bool:
        """Pods are being started, replaced or removed."""
        return self.updated < self.desired or self.existing != self.desired


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A user-written instance that should answer."""

    name: str
    ready: Judgement


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What judging a pool needs."""

    name: str
    is_suspended: bool
    groups: tuple[GroupFacts, ...]
    router: GroupFacts
    elsewhere: tuple[Elsewhere, ...] = ()
    provider: str = ""
    """Address of the cloud that answers instead of engines; empty when they do."""
    unmapped: tuple[str, ...] = ()
    """Models that the provider does not answer for."""
    taken: tuple[str, ...] = ()
    """Objects of others that bear names which the pool needs."""
    refused: tuple[str, ...] = ()
    """What the API server has said to our last writes."""


_PoolCheck: TypeAlias = Callable[[PoolFacts], Judgement | None]


def _name_taken(facts: PoolFacts) -> Judgement | None:
    if not facts.taken:
        return None
    return Judgement(
        False,
        "NameTaken",
        f"{', '.join(facts.taken)}: not made by this pool, so it is left alone; remove it, or "
        "rename the group or the pool",
    )


def _write_refused(facts: PoolFacts) -> Judgement | None:
    return Judgement(False, "WriteRefused", "; ".join(facts.refused)) if facts.refused else None


def _suspended(facts: PoolFacts) -> Judgement | None:
    if not facts.is_suspended:
        return None
    return Judgement(False, "Suspended", "spec.suspend is set: set it to false to start engines")


def _group_problem(facts: PoolFacts) -> Judgement | None:
    problems = [g.problem for g in facts.groups if g.is_short and g.problem is not None]
    if not problems:
        return None
    return Judgement(False, problems[0].reason, "; ".join(p.message for p in problems))


def _refused_elsewhere(facts: PoolFacts) -> Judgement | None:
    for instance in facts.elsewhere:
        if instance.ready.reason in REFUSALS:
            message = f"InferenceInstance {instance.name}: {instance.ready.message}"
            return Judgement(False, instance.ready.reason, message)
    return None


def _router_absent(facts: PoolFacts) -> Judgement | None:
    if facts.router.ready > 0:
        return None
    return Judgement(False, "RouterNotReady", judge_router(facts).message)


def _engines_absent(facts: PoolFacts) -> Judgement | None:
    if facts.provider:
        return None
    short = [f"{g.name}: {g.ready} of {g.desired} ready" for g in facts.groups if g.is_short]
    short += [f"{i.name}: {i.ready.message}" for i in facts.elsewhere if not i.ready.is_true]
    return Judgement(False, "EnginesNotReady", "; ".join(short)) if short else None


READY_CHECKS: Final[Sequence[_PoolCheck]] = (
    _name_taken,
    _write_refused,
    _suspended,
    _group_problem,
    _refused_elsewhere,
    _router_absent,
    _engines_absent,
)


def judge_ready(facts: PoolFacts) -> Judgement:
    """Whether the pool answers with all that its spec asks for."""
    trouble = first(READY_CHECKS, facts)
    if trouble is not None:
        return trouble
    if facts.provider:
        return Judgement(True, "CloudOnly", _describe_cloud(facts))
    count = sum(g.ready for g in facts.groups) + len(facts.elsewhere)
    if count == 0:
        return Judgement(True, "AllReady", "the spec asks for no engine")
    return Judgement(True, "AllReady", f"every engine answers: {count} of {count}")


def _describe_cloud(facts: PoolFacts) -> str:
    words = f"spec.source is cloud: no engine runs, requests go to {facts.provider}"
    if not facts.unmapped:
        return words
    return f"{words}; nobody answers for {', '.join(facts.unmapped)}: map it in cloud.models"


def judge_router(facts: PoolFacts) -> Judgement:
    """Whether the endpoint answers."""
    router = facts.router
    count = f"{router.ready} of {router.desired} router pods ready"
    # A rollout that cannot go on leaves the old pods in place, and none is missing.
    if router.problem is not None and (router.is_short or router.is_moving):
        return Judgement(
            router.ready > 0, router.problem.reason, f"{count}; {router.problem.message}"
        )
    if router.ready == 0:
        return Judgement(False, "RouterNotReady", count)
    return Judgement(True, "RouterShort" if router.is_short else "RouterReady", count)


def judge_scheduled(facts: PoolFacts) -> Judgement:
    """Whether every pod has found a node."""
    problems = [g.problem for g in (*facts.groups, facts.router) if g.problem is not None]
    lost = [p.message for p in problems if p.reason == "Unschedulable"]
    if lost:
        return Judgement(False, "Unschedulable", "; ".join(lost))
    return Judgement(True, "AllScheduled", "every pod has a node")


def judge_progressing(facts: PoolFacts) -> Judgement:
    """Whether pods are being started, replaced or removed."""
    workloads = (*facts.groups, facts.router)
    refused = [p.message for w in workloads if (p := w.problem) and p.reason == "PodsRefused"]
    if refused:
        return Judgement(False, "PodsRefused", "; ".join(refused))
    stuck = [w.name for w in workloads if w.is_stuck]
    if stuck:
        return Judgement(False, "Stuck", f"{', '.join(stuck)}: pods do not become ready in time")
    moving = [w.name for w in workloads if w.is_moving]
    if moving:
        return Judgement(True, "RollingOut", f"pods of {', '.join(moving)} come and go")
    starting = [w.name for w in workloads if w.is_short and _may_pass(w.problem)]
    if starting:
        return Judgement(True, "Starting", f"pods of {', '.join(starting)} are not ready yet")
    return Judgement(False, "Settled", "as many pods as asked for, all from the present spec")


def _may_pass(problem: Problem | None) -> bool:
    return problem is None or problem.reason == NOT_MOUNTED
