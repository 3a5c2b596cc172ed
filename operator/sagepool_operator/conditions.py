"""What is wrong, and the next step. Pure.

A judgement is made by an ordered list of checks: each looks at the facts and either speaks or
passes. The first that speaks is the answer; its reason and message become the condition, the
column of `kubectl get` and the event. So the order below is the order in which a person should
be told: first what only they can repair, last what passes by itself.

    a pod        POD_CHECKS (problems.py)   why its container does not run
    an instance  INSTANCE_CHECKS (instance_conditions.py)   why its engine gets no requests
    a pool       READY_CHECKS               why not all of its engines answer
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sagepool_operator.fit import Estimate
from sagepool_operator.instance_conditions import REFUSALS, Judgement
from sagepool_operator.problems import NOT_MOUNTED, Problem, first
from sagepool_operator.sizing import GroupFit

DOWNLOADING: Final = "Downloading"
"""Reason of ModelsCached while nothing is wrong."""
CLAIM_PENDING: Final = "ClaimPending"
FOLDER_NOT_MOUNTED: Final = "FolderNotMounted"
PASSING: Final = frozenset({CLAIM_PENDING, FOLDER_NOT_MOUNTED})
"""Reasons of ModelsCached that show for a moment whenever a download begins, too: a claim is being
bound, a volume is being mounted. How long it has lasted, no pod says."""


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
    is_gated: bool = False
    """Engines answer whose pods do not count as ready yet: a rollout still waits for them."""
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
    cloud: Judgement | None = None
    """Whether the provider can be reached; None where none is asked, or not yet."""
    fit: Judgement | None = None
    """Whether models fit into their GPUs; None where no group says how much memory those have."""
    caching: Judgement | None = None
    """Whether the models are in the cache; None where nothing is cached."""
    adapters: Judgement | None = None
    """Whether engines have their LoRA adapters; None where no group has any."""
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


def _not_cached(facts: PoolFacts) -> Judgement | None:
    """What keeps a model from its cache; that it is on its way passes by itself."""
    caching = facts.caching
    if caching is None or caching.is_true or caching.reason in {DOWNLOADING, *PASSING}:
        return None
    return caching if any(group.is_short for group in facts.groups) else None


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


def _provider_absent(facts: PoolFacts) -> Judgement | None:
    if not facts.provider or facts.cloud is None or facts.cloud.is_true:
        return None
    return facts.cloud


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
    _not_cached,
    _group_problem,
    _refused_elsewhere,
    _router_absent,
    _provider_absent,
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
        return Judgement(True, "AllReady", "no engine is asked for")
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


def judge_cloud(base_url: str, error: str) -> Judgement:
    """Whether requests can be sent to the provider; `error` is why not."""
    if not error:
        return Judgement(True, "CloudReachable", f"{base_url} answers")
    return Judgement(
        False,
        "CloudUnreachable",
        f"{base_url}: {error}: check cloud.baseUrl, and that pods of this cluster may connect to "
        "it (DNS, NetworkPolicy, firewall, certificate); or set source to local",
    )


def judge_fit(fits: Sequence[GroupFit]) -> Judgement | None:
    """Whether models fit into their GPUs, as far as it can be told; None: nobody has asked."""
    large, unknown, small = [], [], []
    for fit in fits:
        if isinstance(fit.estimate, str):
            unknown.append(f"group {fit.group}: {fit.model}: {fit.estimate}")
        elif fit.estimate.fits:
            small.append(f"group {fit.group}: {fit.model}: {_describe_need(fit.estimate)}")
        else:
            need = _describe_need(fit.estimate)
            advice = _advise_on_size(fit.estimate, fit)
            large.append(f"group {fit.group}: {fit.model}: {need}: {advice}")
    if large:
        return Judgement(False, "ModelTooLarge", "; ".join(large))
    if unknown:
        return Judgement(None, "FitUnknown", "; ".join(unknown))
    return Judgement(True, "ModelsFit", "; ".join(small)) if small else None


def _describe_need(found: Estimate) -> str:
    return (
        f"each GPU needs at least {_gib(found.needed_bytes)} GiB "
        f"(weights {_gib(found.weights_bytes)}, KV cache of {found.length} tokens "
        f"{_gib(found.kv_bytes_per_token * found.length)}), and vllm may take "
        f"{_gib(found.budget_bytes)}"
    )


def _advise_on_size(found: Estimate, fit: GroupFit) -> str:
    advice = "raise gpu.count, take GPUs with more memory, or a quantised or smaller model"
    if fit.share:
        advice = f"{fit.share}, {advice}"
    if found.longest == 0:
        return advice
    return f"{advice}; or set --max-model-len={found.longest} in {fit.args_field}, or less"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f}"


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
        return Judgement(
            False,
            "Stuck",
            f"{', '.join(stuck)}: pods do not become ready in time: see what they wait for with "
            "`kubectl get sinst -o wide`; an engine that loads longer needs more of "
            "startupProbe.failureThreshold in podTemplate",
        )
    moving = [w.name for w in workloads if w.is_moving]
    if moving:
        return Judgement(True, "RollingOut", f"pods of {', '.join(moving)} come and go")
    waiting = [w for w in workloads if w.is_short or w.is_gated]
    starting = [w.name for w in waiting if _may_pass(w.problem)]
    if starting:
        return Judgement(True, "Starting", f"pods of {', '.join(starting)} are not ready yet")
    return Judgement(False, "Settled", "as many pods as asked for, all from the present spec")


def _may_pass(problem: Problem | None) -> bool:
    return problem is None or problem.reason == NOT_MOUNTED
