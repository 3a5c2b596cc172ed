"""The status of instances and of the pool, from what was observed and judged. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from sagepool_crds import names
from sagepool_crds.cache import ModelCache
from sagepool_crds.instance import InferenceInstance, InferenceInstanceStatus, ModelFacts
from sagepool_crds.meta import Condition, ConditionStatus, set_condition
from sagepool_crds.pool import (
    GroupStatus,
    InferencePool,
    InferencePoolStatus,
    ModelStatus,
    Role,
)
from sagepool_crds.space import ModelSpace
from sagepool_kube.api import Kind
from sagepool_operator import conditions
from sagepool_operator.conditions import PoolFacts
from sagepool_operator.instance_conditions import InstanceVerdict, Judgement
from sagepool_operator.reports import Report, same_load

LOAD_INTERVAL: Final = timedelta(seconds=10)
"""A change of load alone is written at most so often."""
_MAX_MESSAGE: Final = 1024
_STATUS: Final[Mapping[bool | None, ConditionStatus]] = {
    True: "True",
    False: "False",
    None: "Unknown",
}

StatusT = TypeVar("StatusT", InferencePoolStatus, InferenceInstanceStatus)


@dataclass(frozen=True, slots=True)
class JudgedInstance:
    """An instance with the status that it should have."""

    instance: InferenceInstance
    group: str
    """Empty when a person wrote it."""
    verdict: InstanceVerdict
    status: InferenceInstanceStatus
    recheck_after_s: float | None
    """When a load that was held back is due."""

    @property
    def is_ready(self) -> bool:
        """Whether requests are sent to it."""
        return self.verdict.ready.is_true is True

    @property
    def ready_since(self) -> datetime:
        """When it last became ready, or ceased to be."""
        return next(c.last_transition_time for c in self.status.conditions if c.type == names.READY)


def instance_status(
    instance: InferenceInstance, verdict: InstanceVerdict, report: Report | None, now: datetime
) -> tuple[InferenceInstanceStatus, float | None]:
    """The status, and after how many seconds a load that was held back is due."""
    old = instance.status
    ready = verdict.engine.is_true and report is not None
    facts = _model_facts(report) if ready else old.model
    adapters = verdict.adapters
    status = InferenceInstanceStatus(
        observed_generation=instance.metadata.generation,
        phase=verdict.phase,
        conditions=_conditions(
            old.conditions,
            {
                names.ENGINE_READY: verdict.engine,
                names.READY: verdict.ready,
                **({names.ROUTABLE: verdict.routable} if verdict.routable is not None else {}),
                **({names.ADAPTERS_LOADED: adapters.judgement} if adapters is not None else {}),
            },
            instance.metadata.generation,
            now,
        ),
        load=report.load if ready and report is not None else None,
        model=facts,
        adapters=list(adapters.statuses) if adapters is not None else [],
        message="" if verdict.ready.is_true else verdict.ready.message[:_MAX_MESSAGE],
        roles=", ".join(endpoint.role for endpoint in instance.spec.endpoints),
        model_names=_join(model for e in instance.spec.endpoints for model in e.models),
    )
    return _hold_load(old, status, now)


def _hold_load(
    old: InferenceInstanceStatus, new: InferenceInstanceStatus, now: datetime
) -> tuple[InferenceInstanceStatus, float | None]:
    """Keep the old load while it is right enough, or while nothing else changes so soon."""
    with_old = new.model_copy(update={"load": old.load})
    if same_load(old.load, new.load):
        return with_old, None
    if differs(old, with_old) or old.load is None or new.load is None:
        return new, None
    age = now - old.load.sampled_at
    if age >= LOAD_INTERVAL:
        return new, None
    return with_old, (LOAD_INTERVAL - age).total_seconds()


def pool_status(
    pool: InferencePool,
    facts: PoolFacts,
    endpoint: str,
    judged: Sequence[JudgedInstance],
    spaces: Mapping[str, ModelSpace],
    cached: Mapping[str, ModelCache],
    now: datetime,
) -> InferencePoolStatus:
    """The status of the pool; `cached` is how far its models are on their way into the cache."""
    groups = [
        GroupStatus(
            name=group.name,
            desired=group.desired,
            ready=group.ready,
            updated=group.updated,
            message=group.problem.message[:_MAX_MESSAGE] if group.problem is not None else "",
        )
        for group in facts.groups
    ]
    models = _models(pool, facts, judged, spaces, cached)
    desired = sum(g.desired for g in groups) + len(facts.elsewhere)
    ready = sum(g.ready for g in groups) + sum(i.ready.is_true is True for i in facts.elsewhere)
    return InferencePoolStatus(
        observed_generation=pool.metadata.generation,
        conditions=_conditions(
            pool.status.conditions,
            {
                names.READY: conditions.judge_ready(facts),
                names.PROGRESSING: conditions.judge_progressing(facts),
                names.ROUTER_READY: conditions.judge_router(facts),
                names.SCHEDULED: conditions.judge_scheduled(facts),
                **({names.CLOUD_REACHABLE: facts.cloud} if facts.cloud is not None else {}),
                **({names.MODELS_FIT: facts.fit} if facts.fit is not None else {}),
                **({names.MODELS_CACHED: facts.caching} if facts.caching is not None else {}),
                **({names.ADAPTERS_LOADED: facts.adapters} if facts.adapters is not None else {}),
            },
            pool.metadata.generation,
            now,
        ),
        endpoint=endpoint,
        models=models,
        groups=groups,
        replicas=desired,
        ready_replicas=ready,
        ready=f"{ready}/{desired}",
        model_names=_join(model.name for model in models),
    )


def differs(old: StatusT, new: StatusT) -> bool:
    """Whether a status has to be written; conditions of others do not count."""
    mine = (c for c in old.conditions if c.type in names.CONDITIONS)
    ours = sorted(mine, key=lambda c: c.type)
    return _by_name(old.model_copy(update={"conditions": ours})) != _by_name(new)


def _by_name(status: StatusT) -> StatusT:
    """The status with models and groups in one order: where a new one is put among those that are
    there is the server's affair, and no reason to write again."""
    if not isinstance(status, InferencePoolStatus):
        return status
    return status.model_copy(
        update={
            "models": sorted(status.models, key=lambda model: model.name),
            "groups": sorted(status.groups, key=lambda group: group.name),
        }
    )


def status_object(
    kind: Kind, namespace: str, name: str, uid: str, status: StatusT
) -> dict[str, Any]:
    """The object for an apply on `/status`; the uid keeps it off a namesake."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "status": status.to_object(),
    }


def _models(
    pool: InferencePool,
    facts: PoolFacts,
    judged: Sequence[JudgedInstance],
    spaces: Mapping[str, ModelSpace],
    cached: Mapping[str, ModelCache],
) -> list[ModelStatus]:
    """Models in the order of the groups, then those that only instances elsewhere serve."""
    roles: dict[str, Role] = {}
    ready: dict[str, int] = {}
    desired: dict[str, int] = {}

    def count(model: str, role: Role, wanted: int, up: int) -> None:
        roles.setdefault(model, role)
        desired[model] = desired.get(model, 0) + wanted
        ready[model] = ready.get(model, 0) + up

    for group, fact in zip(pool.spec.groups, facts.groups, strict=True):
        for role, model in group.served:
            count(model.name, role, fact.desired, fact.ready)
        for adapter in group.adapters:
            loaded = _count_loaded(judged, group.name, adapter.name)
            count(adapter.name, "llm", fact.desired, loaded)
    wanted_elsewhere = {instance.name for instance in facts.elsewhere}
    for one in judged:
        if one.group or one.instance.metadata.name not in wanted_elsewhere:
            continue
        for endpoint in one.instance.spec.endpoints:
            for name in endpoint.models:
                if roles.get(name, endpoint.role) == endpoint.role:
                    count(name, endpoint.role, 1, int(one.is_ready))
    return [
        ModelStatus(
            name=name,
            role=role,
            ready=ready[name],
            desired=desired[name],
            source=_source(pool, name, ready[name]),
            space=spaces.get(name),
            cache=cached.get(name),
        )
        for name, role in roles.items()
    ]


def _count_loaded(judged: Sequence[JudgedInstance], group: str, adapter: str) -> int:
    """Engines of a group that are sent an adapter's requests."""
    return sum(
        any(a.name == adapter and a.phase == "Loaded" for a in one.status.adapters)
        for one in judged
        if one.group == group and one.is_ready
    )


def _source(pool: InferencePool, model: str, ready: int) -> Literal["local", "cloud", ""]:
    """Who answers for it. In source auto each router decides anew for every request: what it does
    without engines is not told here."""
    if pool.spec.source != "cloud":
        return "local" if ready else ""
    return "cloud" if pool.spec.cloud is not None and model in pool.spec.cloud.models else ""


def _conditions(
    old: Sequence[Condition],
    judgements: dict[str, Judgement],
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Our conditions; those of others are theirs to write and are left out."""
    found: tuple[Condition, ...] = tuple(c for c in old if c.type in judgements)
    for type_, judgement in judgements.items():
        found = set_condition(
            found,
            Condition(
                type=type_,
                status=_STATUS[judgement.is_true],
                reason=judgement.reason,
                message=judgement.message[:_MAX_MESSAGE],
                last_transition_time=now,
                observed_generation=generation,
            ),
        )
    return list(found)


def _model_facts(report: Report | None) -> ModelFacts | None:
    if report is None or (report.space is None and report.max_model_len is None):
        return None
    told = report.space.model_dump() if report.space is not None else {}
    return ModelFacts(**told, max_model_len=report.max_model_len)


def _join(items: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(items))
