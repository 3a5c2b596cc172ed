"""Everything that a reconcile knows, read once: the planner sees nothing else."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydantic import ValidationError

from sagepool_crds import names
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import (
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
    Object,
    ObjectApi,
)
from sagepool_kube.errors import NotFound
from sagepool_operator.autoscaling.decision import Decision
from sagepool_operator.errors import ReconcileError
from sagepool_operator.fit import ModelConfig
from sagepool_operator.plan import ChildKey
from sagepool_operator.pods import PodFacts, is_controlled_by, read_pod
from sagepool_operator.reports import (
    AdapterReport,
    ProgressReport,
    ProviderReport,
    Reports,
    TargetKey,
)
from sagepool_operator.routability.answers import Answers
from sagepool_operator.sizing import HubModel

_logger: Final = logging.getLogger(__name__)

CHILD_KINDS: Final[tuple[Kind, ...]] = (
    SERVICE_ACCOUNTS,
    ROLES,
    ROLE_BINDINGS,
    SERVICES,
    PERSISTENT_VOLUME_CLAIMS,
    JOBS,
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
)
"""Kinds that a pool owns, in the order in which they are made."""


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """An InferenceInstance, as sent by the API server and as read."""

    obj: Object
    instance: InferenceInstance
    pod_uid: str
    """The uid of the pod that it was made for; empty when a person wrote it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What has been found outside of the API server."""

    reports: Reports = field(default_factory=dict)
    """Of engines."""
    provider: ProviderReport | None = None
    """Of the pool's cloud provider; None before it has been asked."""
    configs: Mapping[HubModel, ModelConfig | str] = field(default_factory=dict)
    """Of models on the hub; for one that could not be read, why not."""
    answers: Answers = field(default_factory=dict)
    """What routers say that they send to; empty when none was asked."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What the autoscaler has decided and is not done yet, by group."""
    progress: Mapping[str, ProgressReport] = field(default_factory=dict)
    """Of downloads, by the uid of their pod."""
    adapters: Mapping[TargetKey, AdapterReport] = field(default_factory=dict)
    """What engines have of their LoRA adapters."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A pool's part of the world at one moment."""

    key: PoolKey
    pool: InferencePool | None
    """None when there is no such pool, though instances may name it."""
    children: Mapping[ChildKey, Object] = field(default_factory=dict)
    """Objects that carry the pool's label, and those that bear a name that the pool needs."""
    pods: tuple[PodFacts, ...] = ()
    """Engine and router pods."""
    downloads: tuple[PodFacts, ...] = ()
    """Pods that fetch models; their group is the name of their Job."""
    instances: tuple[SeenInstance, ...] = ()
    reports: Reports = field(default_factory=dict)
    provider: ProviderReport | None = None
    """Of the pool's cloud provider; None before it has been asked."""
    configs: Mapping[HubModel, ModelConfig | str] = field(default_factory=dict)
    """Of models on the hub; for one that could not be read, why not."""
    answers: Answers = field(default_factory=dict)
    """What routers say that they send to; empty when none was asked."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What the autoscaler has decided and is not done yet, by group."""
    progress: Mapping[str, ProgressReport] = field(default_factory=dict)
    """Of downloads, by the uid of their pod."""
    adapters: Mapping[TargetKey, AdapterReport] = field(default_factory=dict)
    """What engines have of their LoRA adapters."""
    refused: tuple[str, ...] = ()
    """What the API server has said to the writes of this very reconcile."""


class Cache(Protocol):
    """Local copies of the API server's objects."""

    def pool(self, key: PoolKey) -> Object | None:
        """The pool, or None."""
        ...

    def children(self, key: PoolKey) -> Iterable[tuple[Kind, Object]]:
        """Objects of CHILD_KINDS that carry the pool's label."""
        ...

    def pods(self, key: PoolKey) -> Iterable[Object]:
        """Pods that carry the pool's label."""
        ...

    def instances(self, key: PoolKey) -> Iterable[Object]:
        """Instances whose poolRef is the pool."""
        ...


def read_pool(cache: Cache, key: PoolKey) -> InferencePool | None:
    """The pool, or None.

    Raises:
        ReconcileError: there is one, but this version cannot read it.
    """
    obj = cache.pool(key)
    if obj is None:
        return None
    try:
        return InferencePool.from_object(obj)
    except ValidationError as error:
        raise ReconcileError(
            f"cannot read the pool; install the CustomResourceDefinitions of this version: "
            f"{_brief(error)}"
        ) from error


async def observe(
    cache: Cache,
    api: ObjectApi,
    key: PoolKey,
    pool: InferencePool | None,
    wanted: Iterable[ChildKey],
    findings: Findings,
) -> Observed:
    """Read everything about a pool.

    The cache holds labelled objects only. A wanted name that it lacks is asked of the API server,
    so that an object of somebody else is seen before it would be overwritten.

    Raises:
        KubeError: the API server could not be asked.
    """
    children = {ChildKey(kind, obj["metadata"]["name"]): obj for kind, obj in cache.children(key)}
    for child in wanted:
        if child not in children:
            try:
                children[child] = await api.get(child.kind, key.namespace, child.name)
            except NotFound:
                continue
    return Observed(
        key=key,
        pool=pool,
        children=children,
        pods=tuple(
            read_pod(pod, names.GROUP_LABEL)
            for pod in cache.pods(key)
            if is_controlled_by(pod, "ReplicaSet")
        ),
        downloads=tuple(
            read_pod(pod, names.DOWNLOAD_LABEL)
            for pod in cache.pods(key)
            if is_controlled_by(pod, JOBS.kind)
        ),
        instances=tuple(_read_instances(cache.instances(key))),
        reports=findings.reports,
        provider=findings.provider,
        configs=findings.configs,
        answers=findings.answers,
        decisions=findings.decisions,
        progress=findings.progress,
        adapters=findings.adapters,
    )


def _read_instances(objects: Iterable[Object]) -> Iterable[SeenInstance]:
    for obj in sorted(objects, key=lambda o: str(o["metadata"]["name"])):
        try:
            yield SeenInstance(obj, InferenceInstance.from_object(obj), _pod_uid(obj))
        except ValidationError as error:
            _logger.error(
                "cannot read an instance; install the CustomResourceDefinitions of this version",
                extra={"instance": obj["metadata"]["name"], "error": _brief(error)},
            )


def _pod_uid(obj: Object) -> str:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(o["uid"]) for o in owners if o["kind"] == "Pod"), "")


def _brief(error: ValidationError) -> str:
    """Where and what, without the values."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
