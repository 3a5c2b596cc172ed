"""When models that a pool wants no longer may be removed, and what has to wait meanwhile. Pure.

    another set of models ──► all are there, groups have rolled, no pod has the old ones
                          ──► a Job removes what is no longer wanted ──► an Event tells of it

The volume knows which pool wants which model, so the Job may look at all that lies there: it
removes what was fetched for this pool, is not among the models to keep, and is wanted by no other.

A model that comes back while the Job runs could go under the engine that loads it. So the Job of
the former set is deleted, and what needs the model waits until nothing of that Job runs any more.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import DEPLOYMENTS, JOBS, Kind, Object
from sagepool_operator import transitions
from sagepool_operator.builders import cache
from sagepool_operator.caching import downloads_of, place_of, pruning_of
from sagepool_operator.conditions import GroupFacts
from sagepool_operator.config import Images
from sagepool_operator.drift import seal
from sagepool_operator.plan import Apply, ChildKey
from sagepool_operator.snapshot import Observed

_REMOVED: Final = re.compile(r"Removed: (\d+) bytes of (.+)", re.DOTALL)
"""How the Job's last words begin when it has removed something."""


def plan_pruning(
    pool: InferencePool, observed: Observed, groups: Sequence[GroupFacts], images: Images
) -> Iterator[Apply]:
    """The Job that removes what is no longer wanted, once it may; later the Event that it has."""
    pruning = pruning_of(pool)
    if pruning is None:
        return
    live = observed.children.get(ChildKey(JOBS, pruning.name))
    if live is not None:
        yield from _tell(pool, observed, live)
    elif (
        _has_settled(groups)
        and _has_fetched(pool, observed)
        and _used(observed) <= frozenset(pruning.kept)
    ):
        yield Apply(JOBS, seal(cache.build_prune_job(pool, pruning, images)))


def is_in_the_way(observed: Observed, kind: Kind, wanted: Object) -> bool:
    """Whether an object has to wait, since a model of its may be removed under it."""
    if kind not in (JOBS, DEPLOYMENTS):
        return False
    folders = cache.folders_of_pod(_template(wanted))
    jobs = (job for key, job in observed.children.items() if key.kind == JOBS)
    return any(
        (kept := cache.kept_by(job)) is not None
        and not folders <= kept
        and not cache.is_finished(job)
        for job in jobs
    )


def keeps(pool: InferencePool, observed: Observed, images: Images) -> ChildKey | None:
    """The Job that stays, where there is one; None when it has to be made anew."""
    pruning = pruning_of(pool)
    if pruning is None:
        return None
    key = ChildKey(JOBS, pruning.name)
    live = observed.children.get(key)
    wanted = cache.build_prune_job(pool, pruning, images)
    return None if live is not None and cache.is_outdated(wanted, live) else key


def _has_settled(groups: Sequence[GroupFacts]) -> bool:
    """No rollout is under way, and none has failed: the way back is open until then."""
    return not any(group.is_short or group.is_moving for group in groups)


def _has_fetched(pool: InferencePool, observed: Observed) -> bool:
    """Every model that takes the place of another is there."""
    keys = (ChildKey(JOBS, download.name) for download in downloads_of(pool))
    jobs = (observed.children.get(key) for key in keys)
    return all(job is not None and cache.is_finished(job) for job in jobs)


def _used(observed: Observed) -> set[str]:
    """Folders that pods load from, or that a Deployment may make pods for."""
    pods = (pod.model_folders for pod in observed.pods if not pod.failure)
    deployments = (obj for key, obj in observed.children.items() if key.kind == DEPLOYMENTS)
    return {*chain(*pods), *chain(*(cache.folders_of_pod(_template(one)) for one in deployments))}


def _tell(pool: InferencePool, observed: Observed, job: Object) -> Iterator[Apply]:
    meta = job["metadata"]
    if not cache.is_finished(job) or names.TOLD_ANNOTATION in (meta.get("annotations") or {}):
        return
    pods = (pod for pod in observed.downloads if pod.group == meta["name"] and pod.last_exit)
    said = (_REMOVED.fullmatch(pod.last_exit.message.strip()) for pod in pods if pod.last_exit)
    found = next((match for match in said if match is not None), None)
    if found is None:
        return
    note = {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            **{field: meta[field] for field in ("name", "namespace", "uid")},
            "annotations": {names.TOLD_ANNOTATION: "true"},
        },
    }
    events = transitions.of_pruning(pool, found[2], int(found[1]), place_of(pool))
    yield Apply(JOBS, note, events, manager=names.NOTES_MANAGER)


def _template(obj: Object) -> dict[str, Any]:
    spec: dict[str, Any] = obj["spec"]["template"]["spec"]
    return spec
