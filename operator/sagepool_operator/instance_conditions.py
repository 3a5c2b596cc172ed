"""Whether an instance gets requests, and what keeps it from them. Pure; see conditions.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sagepool_crds.instance import Phase
from sagepool_crds.lora import AdapterStatus
from sagepool_engines.probe import Verdict
from sagepool_operator.problems import Problem, first


@dataclass(frozen=True, slots=True)
class Judgement:
    """A condition's status, reason and message."""

    is_true: bool | None
    """None: nothing can be said."""
    reason: str
    message: str


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
    has_restarted: bool = False
    """The container of its pod has ended before, and runs again."""
    awaits_model: bool = False
    """Its pod waits until its model is in the cache."""
    strange_space: str = ""
    """How its embeddings differ from those of its pool, in words; empty when they do not."""


@dataclass(frozen=True, slots=True)
class AdapterVerdict:
    """The adapters of an engine that answers."""

    statuses: tuple[AdapterStatus, ...]
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class InstanceVerdict:
    """An instance's phase and conditions."""

    phase: Phase
    engine: Judgement
    ready: Judgement
    routable: Judgement | None = None
    """Whether the routers send to it already; None where nothing waits for that."""
    adapters: AdapterVerdict | None = None
    """None where it should have none, or does not answer."""


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


def _downloading(facts: InstanceFacts) -> _Finding | None:
    if not facts.awaits_model:
        return None
    return _Finding(
        "Downloading",
        "ModelNotCached",
        "its pod waits until its model is in the cache: see the pool's condition ModelsCached",
    )


def _starting(facts: InstanceFacts) -> _Finding | None:
    if not facts.is_starting:
        return None
    return _Finding("Pending", "Starting", "the container of its pod is being started")


def _not_probed(facts: InstanceFacts) -> _Finding | None:
    if facts.probed is not None:
        return None
    if facts.has_restarted:
        message = "the engine was started again and has not answered since"
        return _Finding("Loading", "EngineLoading", message)
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
    _downloading,
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
