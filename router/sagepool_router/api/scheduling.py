"""The scheduler for people, on the admin port: what waits, what was decided and why. Read-only."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from sagepool_crds.pool import Role
from sagepool_router.scheduling.decisions import KEPT, Decision
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.scheduler import Gpu, Scheduler
from sagepool_router.scheduling.shared_gpu import Restraint
from sagepool_router.scheduling.work import Work

_LISTED = 100


class WaitingBody(BaseModel):
    """A request in a queue."""

    priority: int
    waited_seconds: float
    seconds_to_deadline: float | None
    tokens: int
    texts: int


class LaneBody(BaseModel):
    """The queue of one model."""

    model: str
    role: Role
    policy: str
    reason: str
    """Why this policy is in use."""
    waiting: int
    flows: int
    """Different API keys or sessions that wait."""
    oldest_seconds: float
    drained_per_second: float
    """Requests started a second, over the last ten seconds."""
    load: float
    """Calls in flight over what the instances take now."""
    service_seconds: float
    """How long a request takes at present."""
    next: list[WaitingBody]
    """The first that are due, in their order."""


class QueueBody(BaseModel):
    """All queues."""

    waiting: int
    max_requests: int
    max_wait_seconds: float
    lanes: list[LaneBody]


class OptionBody(BaseModel):
    """An instance that could have been chosen, as it was then."""

    instance: str
    in_flight: int
    capacity: int
    latency_seconds: float
    score: float
    """By what it was compared with the others; the lower the better. By reason: `lowest_latency`:
    expected latency in eighths of an octave above 1 ms, and 1 for each call in flight; `cheapest`:
    price per token; `fastest_in_budget`: latency in seconds; `affinity`: in flight; else what is in
    flight, and 4 for each request without a first byte."""


class DecisionBody(BaseModel):
    """One placement."""

    request_id: str
    ago_seconds: float
    role: Role
    model: str
    instance: str
    policy: str
    reason: str
    priority: int
    waited_seconds: float
    texts: int
    callers: int
    candidates: list[OptionBody]
    """The chosen one, then the best others that had room, sixteen at most. Empty for decisions
    whose candidates were not kept: at most fifty a second are."""
    bound: int | None
    """By affinity: what the chosen one had to have less than in flight."""


class GpuBody(BaseModel):
    """A GPU that chat and embeddings share."""

    device: str
    instances: list[str]
    may_start_llm: bool
    may_start_embedding: bool
    embeddings_held_back_by: Restraint | None
    """The chat's turn, chat's first token, or what a chat engine is short of: room in its batch
    (requests wait inside it) or in its KV cache."""
    embedding_calls: int
    embedding_window: float
    """Embedding calls that chat's time to first token allows."""
    target_is_reachable: bool
    """False: chat misses its target without any embedding beside it."""
    embedding_balance_seconds: float
    """Time that the embeddings have not yet had of their share."""


class LanePolicyBody(BaseModel):
    """The policy of one model."""

    model: str
    role: Role
    policy: str
    reason: str
    """Why this policy is in use."""


class PolicyBody(BaseModel):
    """The settings in use and what they come to."""

    settings: dict[str, Any]
    lanes: list[LanePolicyBody]
    decisions: dict[str, int]
    """Placements since the start, by policy and reason."""
    gpus: list[GpuBody]


def build_scheduling_routes(
    scheduler: Scheduler[Any], settings: Callable[[], dict[str, Any]], clock: Callable[[], float]
) -> APIRouter:
    """The routes.

    Args:
        scheduler: of this process.
        settings: the pool's scheduling settings as JSON.
        clock: the scheduler's.
    """
    routes = APIRouter(prefix="/admin", tags=["admin"])

    @routes.get("/queue", summary="What waits, by model")
    async def show_queue() -> QueueBody:
        queue = scheduler.settings.queue
        now = clock()
        return QueueBody(
            waiting=scheduler.waiting,
            max_requests=queue.max_requests,
            max_wait_seconds=queue.max_wait_s,
            lanes=[_lane(lane, now) for lane in scheduler.lanes.values()],
        )

    @routes.get("/decisions", summary="The last placements, newest first, and why")
    async def show_decisions(
        n: Annotated[int, Query(ge=1, le=KEPT, description="How many")] = 50,
    ) -> list[DecisionBody]:
        now = clock()
        return [_decision(found, now) for found in islice(reversed(scheduler.log.kept), n)]

    @routes.get("/policy", summary="The settings in use and what they come to")
    async def show_policy() -> PolicyBody:
        return PolicyBody(
            settings=settings(),
            lanes=[
                LanePolicyBody(
                    model=lane.model, role=lane.kind, policy=lane.label, reason=lane.reason
                )
                for lane in scheduler.lanes.values()
            ],
            decisions={
                f"{policy} {reason}": count
                for (policy, reason), count in sorted(scheduler.log.counts.items())
            },
            gpus=[_gpu(name, gpu) for name, gpu in scheduler.gpus.items()],
        )

    return routes


def _lane(lane: Lane[Any], now: float) -> LaneBody:
    waiting = lane.queue.waiting()
    oldest_at = min((work.arrived_at for work in waiting), default=now)
    return LaneBody(
        model=lane.model,
        role=lane.kind,
        policy=lane.label,
        reason=lane.reason,
        waiting=len(waiting),
        flows=lane.shares.flows,
        oldest_seconds=now - oldest_at,
        drained_per_second=lane.rate.per_second(now),
        load=lane.placement.load,
        service_seconds=lane.outlook.service_s,
        next=[_waiting(work, now) for work in waiting[:_LISTED]],
    )


def _waiting(work: Work[Any], now: float) -> WaitingBody:
    left = work.deadline_at - now
    return WaitingBody(
        priority=work.priority,
        waited_seconds=now - work.arrived_at,
        seconds_to_deadline=None if left == float("inf") else left,
        tokens=work.tokens,
        texts=work.texts,
    )


def _decision(found: Decision, now: float) -> DecisionBody:
    return DecisionBody(
        request_id=found.request_id.decode("latin-1"),
        ago_seconds=now - found.at,
        role=found.kind,
        model=found.model,
        instance=found.place,
        policy=found.policy,
        reason=found.reason,
        priority=found.priority,
        waited_seconds=found.waited_s,
        texts=found.texts,
        callers=found.callers,
        candidates=[
            OptionBody(
                instance=option.name,
                in_flight=option.in_flight,
                capacity=option.capacity,
                latency_seconds=option.latency_s,
                score=option.score,
            )
            for option in found.options
        ],
        bound=found.bound,
    )


def _gpu(name: str, gpu: Gpu) -> GpuBody:
    state = gpu.state
    return GpuBody(
        device=name.removeprefix("instance:"),
        instances=sorted({place.name for place in gpu.places}),
        may_start_llm=state.may_start_llm,
        may_start_embedding=state.may_start_embedding,
        embeddings_held_back_by=state.held_back_by,
        embedding_calls=state.calls,
        embedding_window=state.hold_back.window,
        target_is_reachable=state.hold_back.is_reachable,
        embedding_balance_seconds=state.time_share.balance_s,
    )
