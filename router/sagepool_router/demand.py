"""What each group of the pool is wanted for, as this router sees it: what the operator scales by.

A router reports what it knows for certain, its own requests, and judges nothing: the operator adds
up what all routers of the pool report. Reading a report changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sagepool_router.counters import FIRST_BYTE_SECONDS
from sagepool_router.fleet import Fleet, LiveRoute
from sagepool_router.scheduling.embedding_work import EmbeddingWork

_SAMPLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GroupDemand:
    """One group."""

    group: str
    in_flight: int
    """Calls that its engines have from this router."""
    capacity: int
    """Calls that its engines may have from this router now, each no more than the one that takes
    fewest: what an engine can run is learnt only when it has been full."""
    queued_requests: int
    """Requests that wait for its models, shared out evenly among the groups that serve them."""
    queued_texts: int
    """Texts of those that are embeddings."""
    idle_s: float
    """Seconds since one of its models was last wanted, whoever answered; since the start of this
    router when none was."""
    unmet_s: float | None
    """Seconds since a request came that no engine of the pool could take; None: there was none."""
    first_byte_counts: tuple[int, ...]
    """Answers of its chat models since the start, by the time to their first byte: a count for
    each bound of `FIRST_BYTE_SECONDS`, and one for what took longer."""


class DemandMeter:
    """Keeps when each model was last wanted, and reports groups.

    Args:
        fleet: the routes and backends in use.
        clock: seconds, monotonic.
    """

    def __init__(self, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._started_at = clock()
        self._wanted_at: dict[str, float] = {}
        self._unmet_at: dict[str, float] = {}
        self._ended: dict[str, int] = {}
        """Requests that have ended, by model, as they were counted last."""
        self._sample_at = 0.0

    def want(self, model: str) -> None:
        """A request has come that no engine of the pool can take."""
        self._wanted_at[model] = self._unmet_at[model] = self._clock()

    def sweep(self) -> None:
        """See which models are in use; to be called a few times a second.

        Sampling costs the request path nothing. A request that begins and ends between two samples
        is seen by the count of those that have ended.
        """
        now = self._clock()
        if now < self._sample_at:
            return
        self._sample_at = now + _SAMPLE_S
        routes = {route.model: route for route in self._fleet.routes.values()}
        for model, route in routes.items():
            ended = sum(route.counters.codes.values())
            is_busy = route.lane.queue.count or any(m.in_flight for m in route.members)
            if is_busy or ended != self._ended.get(model, 0):
                self._wanted_at[model] = now
            self._ended[model] = ended
        for known in (self._wanted_at, self._unmet_at, self._ended):
            for model in known.keys() - routes.keys():
                del known[model]

    def report(self) -> tuple[GroupDemand, ...]:
        """Every group of the pool."""
        groups = self._fleet.table.groups
        routes = {route.model: route for route in self._fleet.routes.values()}
        sharers = [model for models in groups.values() for model in models]
        return tuple(
            self._describe(group, [routes[m] for m in models if m in routes], sharers)
            for group, models in groups.items()
        )

    def _describe(
        self, group: str, routes: Sequence[LiveRoute], sharers: Sequence[str]
    ) -> GroupDemand:
        members = {m for route in routes for m in route.members if m.facts.group == group}
        queues = [(route.lane.queue, sharers.count(route.model)) for route in routes]
        now = self._clock()
        models = [route.model for route in routes]
        wanted_at = max([self._wanted_at.get(m, self._started_at) for m in models])
        unmet_at = max([self._unmet_at[m] for m in models if m in self._unmet_at], default=None)
        return GroupDemand(
            group=group,
            in_flight=sum([member.in_flight for member in members]),
            capacity=len(members) * min([member.capacity for member in members], default=0),
            queued_requests=sum([-(-queue.count // share) for queue, share in queues]),
            queued_texts=sum([-(-_texts(queue.waiting()) // share) for queue, share in queues]),
            idle_s=now - wanted_at,
            unmet_s=None if unmet_at is None else now - unmet_at,
            first_byte_counts=_first_bytes(routes),
        )


def _texts(waiting: Iterable[object]) -> int:
    return sum([work.untaken for work in waiting if isinstance(work, EmbeddingWork)])


def _first_bytes(routes: Sequence[LiveRoute]) -> tuple[int, ...]:
    total = [0] * (len(FIRST_BYTE_SECONDS) + 1)
    for route in routes:
        if route.role == "llm":
            counts = route.counters.first_byte_seconds.counts
            total = [a + b for a, b in zip(total, counts, strict=True)]
    return tuple(total)
