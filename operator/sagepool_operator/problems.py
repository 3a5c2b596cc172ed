"""What keeps pods from being made or their containers from running, and the next step. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from sagepool_crds.pod_template import SIDECAR_CONTAINER
from sagepool_engines.last_words import find_cause
from sagepool_operator.pods import Exit, PodFacts

OWN_IMAGE_FIELD: Final = "the operator's setting SAGEPOOL_OPERATOR_IMAGE"
PULL_SECRETS_SETTING: Final = "SAGEPOOL_OPERATOR_IMAGE_PULL_SECRETS"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a pod or a group from working."""

    reason: str
    message: str


F = TypeVar("F")
R = TypeVar("R")


def first(checks: Sequence[Callable[[F], R | None]], facts: F) -> R | None:
    """The answer of the first check that speaks."""
    return next((answer for check in checks if (answer := check(facts)) is not None), None)


@dataclass(frozen=True, slots=True)
class Workload:
    """Where a person corrects what a pod was made from."""

    subject: str
    """For example `group chat`."""
    image_field: str
    """Where its image is set."""
    pull_secret_place: str
    """Where a secret for pulling the image can be added."""
    gpu: str = ""
    """Name of the extended resource that it asks for; empty when none."""
    secrets: str = ""
    """The Secrets that its pods mount, in words; empty when none."""


_PodCheck: TypeAlias = Callable[[tuple[PodFacts, Workload]], Problem | None]
_PULL_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
NOT_MOUNTED: Final = "SecretNotMounted"
"""Passes within a moment when the Secret is there: how long it has lasted, no pod says."""
CRASHING: Final = "EngineCrashing"
OUT_OF_MEMORY: Final = "OutOfMemory"
_SIGNALLED: Final = 128
"""Exit codes from here on are those of signals."""
_LAST_LINES: Final = 5
_MOST_WORDS: Final = 600
_CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})


def _failed(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, _ = facts
    if not pod.failure:
        return None
    return Problem("PodFailed", f"{pod.name}: {pod.failure}; a new pod takes its place")


def _unschedulable(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, work = facts
    if not pod.unschedulable:
        return None
    if "persistentvolumeclaim" in pod.unschedulable.lower():
        advice = (
            f"create the claim that {work.subject} mounts, correct its name, or see what "
            "`kubectl describe pvc` says of its storage class and access mode"
        )
    elif work.gpu and work.gpu in pod.unschedulable:
        advice = (
            f"no node has a free {work.gpu}: install its device plugin, add a node, "
            f"or lower or remove gpu in {work.subject}"
        )
    else:
        advice = f"add a node, or free what {work.subject} asks for"
    return Problem("Unschedulable", f"{pod.name}: {pod.unschedulable.rstrip('. ')}: {advice}")


def _mounting(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, work = facts
    if not work.secrets or not pod.is_mounting:
        return None
    return Problem(
        NOT_MOUNTED,
        f"{pod.name} waits for {work.secrets}: if it stays so, create what is missing in this "
        "namespace, or correct the reference",
    )


def _image(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, work = facts
    if pod.waiting is None or pod.waiting.reason not in _PULL_REASONS:
        return None
    said = pod.waiting.message or pod.waiting.reason
    field, place = work.image_field, work.pull_secret_place
    if pod.blocked_by == SIDECAR_CONTAINER:
        field, place = OWN_IMAGE_FIELD, f"the operator's setting {PULL_SECRETS_SETTING}"
    elif pod.blocked_by:
        field = f"the image of its init container {pod.blocked_by}"
    return Problem(
        "ImagePullFailed",
        f"{pod.name}: {said.rstrip('. ')}: check {field}, or add a pull secret to {place}",
    )


def _configuration(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, work = facts
    if pod.waiting is None or pod.waiting.reason not in _CONFIG_REASONS:
        return None
    return Problem(
        "ContainerConfigInvalid",
        f"{pod.name}: {pod.waiting.message or pod.waiting.reason}: create what {work.subject} "
        "refers to, or correct the reference",
    )


def _crashing(facts: tuple[PodFacts, Workload]) -> Problem | None:
    pod, work = facts
    if pod.is_running or pod.last_exit is None:
        return None
    end = pod.last_exit
    if end.reason == "OOMKilled":
        reason, how = OUT_OF_MEMORY, "ran out of memory"
        advice = f"give the pods of {work.subject} more, or load less"
    else:
        last = _last_lines(end)
        reason, how = CRASHING, f"exited with code {end.code}" + (f" ({last})" if last else "")
        container = f" --container {pod.blocked_by}" if pod.blocked_by else ""
        advice = f"see `kubectl logs {pod.name} --previous{container}`"
    who = f"{pod.name} (its container {pod.blocked_by})" if pod.blocked_by else pod.name
    return Problem(reason, f"{who} {how}, restarted {_times(pod.restarts)}: {advice}")


def _last_lines(end: Exit) -> str:
    """The end of what a container has said, in one line; before it the cause, if farther up.

    Whom a signal has ended does not know why: an error in what it said is an older one.
    """
    lines = [line.strip() for line in end.message.splitlines() if line.strip()][-_LAST_LINES:]
    words = " / ".join(lines)
    last = words if len(words) <= _MOST_WORDS else f"...{words[-_MOST_WORDS:]}"
    cause = find_cause(end.message)[:_MOST_WORDS] if end.code < _SIGNALLED else ""
    return last if cause in last else f"{cause} / ... / {lines[-1][:_MOST_WORDS]}"


POD_CHECKS: Final[Sequence[_PodCheck]] = (
    _failed,
    _unschedulable,
    _mounting,
    _image,
    _configuration,
    _crashing,
)


def find_problem(pod: PodFacts, work: Workload) -> Problem | None:
    """What keeps the pod's container from running, if anything does."""
    return first(POD_CHECKS, (pod, work))


def find_refusal(conditions: Sequence[Mapping[str, Any]], work: Workload) -> Problem | None:
    """Why no pod can be made, from the conditions of the Deployment that should have it.

    Its controller is what the API server refuses, so there is no pod that could tell.
    """
    for condition in conditions:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            said = str(condition.get("message") or condition.get("reason") or "no reason given")
            advice = _advise_on_refusal(said, work)
            return Problem("PodsRefused", f"{work.subject}: {said.rstrip('. ')}: {advice}")
    return None


def _advise_on_refusal(said: str, work: Workload) -> str:
    if "exceeded quota" in said:
        return f"raise the ResourceQuota, or ask for less in {work.subject}"
    if "failed quota" in said:  # it counts something that the pod says nothing about
        return "give the namespace a LimitRange with defaults for what the quota counts"
    if "violates PodSecurity" in said and "hostPath" in said:
        level = "pod-security.kubernetes.io/enforce=privileged"
        return f"take cache.type pvc, or label the namespace {level}: hostPath needs it"
    if "violates PodSecurity" in said:
        level = "pod-security.kubernetes.io/enforce=baseline"
        return f"label the namespace {level}: engines run as the user of their image"
    return "change the policy of the namespace that refuses it (quota, LimitRange, admission)"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
