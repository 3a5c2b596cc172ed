"""How far a pool's models are on their way into its cache, and what keeps them from it. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sagepool_crds.cache import ModelCache
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import JOBS
from sagepool_operator.builders import cache, identity
from sagepool_operator.caching import (
    Download,
    cached_models,
    claim_of,
    downloads_of,
    place_of,
    pruning_of,
)
from sagepool_operator.conditions import CLAIM_PENDING, DOWNLOADING, FOLDER_NOT_MOUNTED
from sagepool_operator.instance_conditions import Judgement
from sagepool_operator.plan import ChildKey, ProgressTarget
from sagepool_operator.pods import PodFacts
from sagepool_operator.problems import (
    CRASHING,
    OUT_OF_MEMORY,
    OWN_IMAGE_FIELD,
    PULL_SECRETS_SETTING,
    Problem,
    Workload,
)
from sagepool_operator.problems import find_problem as find_pod_problem
from sagepool_operator.reports import ProgressReport
from sagepool_operator.snapshot import Observed

_SAID: Final = re.compile(r"([A-Z][A-Za-z]+): (.+)", re.DOTALL)
"""How a downloader's termination message begins: with the reason."""
_DONE: Final = re.compile(r"Done: (\d+) bytes")
"""What it says in the end when all is well."""


@dataclass(frozen=True, slots=True)
class DownloadFacts:
    """A download with how far it is."""

    download: Download
    is_cached: bool
    size_bytes: int = 0
    """Of the cached model, where it is known."""
    progress: ProgressReport | None = None
    """None where nothing has been told."""
    problem: Problem | None = None


def judge_downloads(pool: InferencePool, observed: Observed) -> tuple[DownloadFacts, ...]:
    """Every model that the pool caches, in the order of its groups."""
    return tuple(_judge(pool, download, observed) for download in downloads_of(pool))


def judge_caching(
    pool: InferencePool, observed: Observed, facts: Sequence[DownloadFacts]
) -> Judgement | None:
    """Whether the pool's models are in its cache; None where it caches none."""
    if not facts:
        return None
    problems = [(f.download.source, f.problem) for f in facts if f.problem is not None]
    if problems:
        words = "; ".join(dict.fromkeys(f"{source}: {p.message}" for source, p in problems))
        return Judgement(False, problems[0][1].reason, words)
    missing = [f.download.source for f in facts if not f.is_cached]
    if missing:
        words = f"fetching {', '.join(missing)} into {place_of(pool)}: see status.models[].cache"
        return Judgement(False, DOWNLOADING, words)
    words = f"{len(facts)} of {len(facts)} are on {place_of(pool)}"
    problem = _pruning_problem(pool, observed)
    if problem is not None:
        words = f"{words}; what is no longer wanted cannot be removed: {problem.message}"
    return Judgement(True, "ModelsCached", words)


def model_caches(pool: InferencePool, facts: Sequence[DownloadFacts]) -> dict[str, ModelCache]:
    """What the pool's status says of each model that is cached, by name."""
    by_name = {fact.download.name: fact for fact in facts}
    before = {model.name: model.cache for model in pool.status.models}
    return {
        model: _describe(by_name[job], before.get(model))
        for model, job in cached_models(pool).items()
        if job in by_name
    }


def progress_targets(observed: Observed) -> Iterator[ProgressTarget]:
    """The downloads that run."""
    for pod in observed.downloads:
        if pod.model_folders and pod.is_running and pod.ip and not pod.is_deleting:
            url = f"http://{identity.host(pod.ip)}:{cache.PORT}/progress"
            yield ProgressTarget(pod.uid, url)


def _describe(fact: DownloadFacts, before: ModelCache | None) -> ModelCache:
    known = before.total_bytes if before is not None else 0
    told = fact.progress
    if fact.is_cached:
        size = fact.size_bytes or known
        return ModelCache(phase="Cached", bytes=size, total_bytes=size)
    if fact.problem is not None:
        kept = before.bytes if before is not None else 0
        return ModelCache(
            phase="Failed", bytes=kept, total_bytes=known, message=fact.problem.message
        )
    if told is None:
        return ModelCache(phase="Pending", total_bytes=known)
    return ModelCache(
        phase="Downloading",
        bytes=told.bytes_done,
        total_bytes=told.bytes_total,
        bytes_per_second=told.bytes_per_second,
        remaining_seconds=told.remaining_s,
    )


def _judge(pool: InferencePool, download: Download, observed: Observed) -> DownloadFacts:
    job = observed.children.get(ChildKey(JOBS, download.name))
    pods = _present([pod for pod in observed.downloads if pod.group == download.name])
    if job is not None and cache.is_finished(job):
        return DownloadFacts(download, is_cached=True, size_bytes=_size(pods))
    progress = next((observed.progress[p.uid] for p in pods if p.uid in observed.progress), None)
    subject = f"the download of {download.source}"
    problems = (_failure(pod, progress) or _pod_problem(pool, subject, pod) for pod in pods)
    problem = next((problem for problem in problems if problem is not None), None)
    return DownloadFacts(download, False, progress=progress, problem=problem)


def _present(pods: Sequence[PodFacts]) -> Sequence[PodFacts]:
    """Pods that speak for their Job: one that was evicted is kept beside the one in its place."""
    staying = [pod for pod in pods if not pod.is_deleting]
    return [pod for pod in staying if not pod.failure] or staying


def _size(pods: Sequence[PodFacts]) -> int:
    ends = (pod.last_exit.message for pod in pods if pod.last_exit is not None)
    found = (_DONE.fullmatch(message.strip()) for message in ends)
    return next((int(match[1]) for match in found if match is not None), 0)


def _failure(pod: PodFacts, progress: ProgressReport | None) -> Problem | None:
    """Why the last attempt has ended, until the present one brings something."""
    if pod.last_exit is None or pod.last_exit.code == 0:
        return None
    if pod.is_running and progress is not None and progress.bytes_per_second:
        return None
    said = _SAID.fullmatch(pod.last_exit.message.strip())
    if said is None:
        return None
    return Problem(said[1], said[2])


def _pruning_problem(pool: InferencePool, observed: Observed) -> Problem | None:
    """What keeps models that are no longer wanted from being removed."""
    pruning = pruning_of(pool)
    if pruning is None:
        return None
    mine = (pod for pod in observed.downloads if pod.group == pruning.name)
    pods = _present([p for p in mine if p.last_exit is None or p.last_exit.code != 0])
    found = (_failure(pod, None) or _pod_problem(pool, "the removal", pod) for pod in pods)
    return next((problem for problem in found if problem is not None), None)


def _pod_problem(pool: InferencePool, subject: str, pod: PodFacts) -> Problem | None:
    work = Workload(
        subject,
        OWN_IMAGE_FIELD,
        f"service account default, or name one in the operator's setting {PULL_SECRETS_SETTING}",
    )
    claim = claim_of(pool)
    said = pod.unschedulable.lower()
    if claim and "persistentvolumeclaim" in said and "not found" in said:
        return Problem(
            "ClaimNotFound",
            f"{pod.name}: {pod.unschedulable.rstrip('. ')}: create the claim, correct "
            "cache.claimName, or give cache.size to have it made",
        )
    if claim and "persistentvolumeclaim" in said:
        return Problem(
            CLAIM_PENDING,
            f"{pod.name}: {pod.unschedulable.rstrip('. ')}: see `kubectl describe pvc {claim}`; "
            "its storage class has to exist and to offer the access mode",
        )
    if pod.is_mounting and not claim:
        return Problem(
            FOLDER_NOT_MOUNTED,
            f"{pod.name} waits for {place_of(pool)}: if it stays so, make the folder on the node, "
            "writable by user 65532, or take type pvc",
        )
    problem = find_pod_problem(pod, work)
    if problem is not None and problem.reason in (CRASHING, OUT_OF_MEMORY):
        return Problem("DownloadCrashing", problem.message)
    return problem
