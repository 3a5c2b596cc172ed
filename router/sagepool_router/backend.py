"""One engine as this process sees it: its load, its idle connections, whether it is tried."""

from typing import Final, Literal, TypeAlias

from sagepool_engines.dialects import EngineLoad
from sagepool_router.limits import Limits
from sagepool_router.scheduling.batch_limit import BatchLimit
from sagepool_router.scheduling.concurrency import AdaptiveLimit, SlowStart
from sagepool_router.scheduling.instance import AnySeat, Instance
from sagepool_router.scheduling.placement import latency_class
from sagepool_router.table import Backend
from sagepool_router.upstream import CoarseClock, IdlePool

State: TypeAlias = Literal["available", "ejected", "probation", "retired"]

FAILURES_TO_EJECT: Final = 3
"""Failures in a row after which a backend is left out; one failed connect is enough."""
_NEWEST: Final = 0.1
"""Weight of the newest sample in moving averages."""
_DRIFT: Final = 0.034
"""By so much an idle instance's latency nears the others' at each sweep: by half in 5 s."""
_SWEEPS_TO_FORGET: Final = 120
"""Idle for so many, 30 s, its throughput is not known any more."""


class Standing:
    """How the instances of a model are, kept by themselves: nobody has to ask each.

    Args:
        healthy: how many are neither ejected nor on probation.
        last_failure: of any, for people; empty: none has failed.
    """

    __slots__ = ("healthy", "last_failure")

    def __init__(self, healthy: int, last_failure: str) -> None:
        self.healthy = healthy
        self.last_failure = last_failure


class LiveBackend(Instance):
    """The live state of a table's Backend; it outlives the table.

    Least-loaded choice loves a dead engine: nothing is ever in flight on it. So a backend that
    fails is ejected for a while, then on probation with one request at a time until one succeeds.

    Args:
        facts: what the table says of it.
        limits: of the process.
        clock: the sweep's.
        is_new: it has joined others that serve already: it gets its share little by little.
    """

    __slots__ = (
        "_answer_starts",
        "_carried",
        "_clock",
        "_idle_sweeps",
        "_is_open",
        "_limits",
        "_slow_start",
        "_standings",
        "_state",
        "batch_limit",
        "concurrency",
        "ejected_until",
        "facts",
        "failures",
        "is_provider",
        "load",
        "pool",
        "request_fields",
        "request_start",
        "skipped",
    )

    def __init__(
        self, facts: Backend, limits: Limits, clock: CoarseClock, *, is_new: bool = False
    ) -> None:
        super().__init__(facts.instance, facts.role)
        self.facts = facts
        self.price_per_hour = facts.price_per_hour
        self.is_provider = False
        """It is outside of the pool."""
        self._idle_sweeps = 0
        """In a row, of late."""
        self.load: EngineLoad | None = None
        """What the engine said of itself last."""
        self.batch_limit = BatchLimit() if facts.role == "embedding" else None
        """How many embedding calls it sustains."""
        self.concurrency = AdaptiveLimit(facts.limit)
        """How many requests it takes before they wait inside it."""
        self._slow_start = SlowStart(clock.now) if is_new else None
        self._is_open = True
        self._limits = limits
        self._clock = clock
        self._standings: tuple[Standing, ...] = ()
        self._carried = 0
        """Calls that it had already when it failed: they are no probes."""
        self._state: State = "available"
        self.capacity = self._room()
        self.pool = IdlePool(clock, limits.pool_idle_s, limits.max_answer_head_bytes)
        self.request_start = b"POST " + facts.prefix.encode()
        """What stands before a request's path."""
        self.skipped = 0
        """How much of a request's path its address holds already."""
        self.request_fields = _request_fields(facts)
        """What stands between a request's path and the fields of its own."""
        self._answer_starts: dict[tuple[str, str], bytes] = {}
        self.failures = 0
        """Failures in a row."""
        self.ejected_until = 0.0
        """Clock time up to which it is left out after it has failed."""

    @property
    def state(self) -> State:
        """Whether it is chosen, and if not, why."""
        return self._state

    @property
    def is_healthy(self) -> bool:
        """Neither ejected nor on probation."""
        return self._state == "available"

    @property
    def is_probed(self) -> bool:
        """A call is under way that was sent to see whether it still fails."""
        return self.in_flight > self._carried

    def answer_fields(self, policy: str, reason: str) -> bytes:
        """What stands between an answer's fields and its id: who answered, who chose, and why."""
        key = (policy, reason)
        found = self._answer_starts.get(key)
        if found is None:
            found = self._answer_starts[key] = (
                f"x-sagepool-instance: {self.name}\r\nx-sagepool-policy: {policy}\r\n"
                f"x-sagepool-reason: {reason}\r\nx-request-id: "
            ).encode()
        return found

    def authorize(self, key: str) -> None:
        """Send this key with every request from now on; empty: none."""
        fields = _request_fields(self.facts)
        self.request_fields = (
            fields + f"authorization: Bearer {key}\r\n".encode() if key else fields
        )

    def release(self) -> None:
        """A call that was placed on it has ended."""
        self.in_flight -= 1
        if self._carried:
            self._carried -= 1
            self.capacity = self._room()
        for seat in self.seats:
            seat.index.update(seat)

    def open_gate(self, is_open: bool) -> None:
        """Whether its GPU lets work of its kind start now."""
        if is_open != self._is_open:
            self._is_open = is_open
            self._update()

    def succeeded(self) -> None:
        """It has begun to answer a request."""
        self.failures = 0
        if self._state == "probation" or self._state == "ejected":
            self._enter("available")

    def failed(self, reason: str = "", *, is_connect: bool) -> None:
        """It could not be reached, or broke an answer off before its first byte.

        Args:
            reason: for people.
            is_connect: it could not be reached.
        """
        self.failures += 1
        if self._state == "retired":
            return
        for standing in self._standings:
            standing.last_failure = f"instance {self.name}: {reason}"
        if is_connect or self._state == "probation" or self.failures >= FAILURES_TO_EJECT:
            doublings = min(self.failures - 1, 10)
            pause = min(self._limits.eject_max_s, self._limits.eject_s * 2**doublings)
            self.ejected_until = self._clock.now + pause
            self._enter("ejected")

    def refused(self, pause_s: float) -> None:
        """It is full: nothing for a while, at least for `pause_s`, and then little by little."""
        self._slow_start = SlowStart.after_refusal(self._slow_start, self._clock.now, pause_s)
        self._update()

    def completed(self, seconds: float, tokens: int) -> None:
        """A call has been answered.

        Args:
            seconds: from its placement to its end.
            tokens: of work done, estimated or as the engine said.
        """
        known = self.latency_s
        self.latency_s = known + _NEWEST * (seconds - known) if known else seconds
        speed = tokens * (self.in_flight or 1) / (seconds or 1e-6)
        known = self.tokens_per_s
        self.tokens_per_s = known + _NEWEST * (speed - known) if known else speed
        self._idle_sweeps = 0  # no sweep may have seen it: it was shorter than the time between

    def observe_batch(
        self, seconds: float, tokens: int, in_flight: int, *, is_full: bool = False
    ) -> None:
        """An embedding call has been answered; see `BatchLimit.observe`."""
        limit = self.batch_limit
        if limit is not None and limit.observe(seconds, tokens, in_flight, is_full=is_full):
            self._update()

    def observe_load(self, load: EngineLoad) -> None:
        """The engine has said how it is."""
        self.load = load
        if self.batch_limit is not None:
            return
        if self.gpu is not None:
            self.gpu.state.observe_engine(
                self._clock.now, self.name, load.waiting, load.kv_cache_usage
            )
        if self.concurrency.observe(load.running, load.waiting, self.in_flight):
            self._update()

    def forget_load(self) -> None:
        """The engine has not said for a while how it is."""
        if self.batch_limit is None and self.in_flight and self.concurrency.forget():
            self._update()

    def sweep(self) -> None:
        """Close old idle connections; end an ejection whose time is over; go on starting slowly."""
        self.pool.sweep()
        self._doubt()
        self._classify()
        if self._state == "ejected" and self._clock.now >= self.ejected_until:
            self._enter("probation")
        elif self._slow_start is not None:
            self._update()

    def _doubt(self) -> None:
        """Believe less and less what was measured, while nothing is.

        An instance that was slow or dear is given nothing where latency or cost decide, so it
        would not be found out that it has recovered. Its latency nears what requests of its
        queues need elsewhere, never less: it is given a few again, not all that comes.
        """
        if self.in_flight:
            self._idle_sweeps = 0
            return
        self._idle_sweeps += 1
        if self._idle_sweeps == _SWEEPS_TO_FORGET:
            self.tokens_per_s = 0.0
        usual_s = min([lane.outlook.service_s for lane in self.lanes], default=0.0)
        if 0 < usual_s < self.latency_s:
            self.latency_s += _DRIFT * (usual_s - self.latency_s)

    def _classify(self) -> None:
        """Take the measured latency in; not at every answer: a logarithm is dear there."""
        found = latency_class(self.latency_s)
        if found != self.latency_class:
            self.latency_class = found
            for seat in self.seats:
                seat.index.update(seat)

    def retire(self) -> None:
        """The table has dropped it: what is under way goes on, nothing new comes."""
        self.seats = ()
        self._standings = ()
        self._enter("retired")
        self.pool.close()

    def describe(self, facts: Backend, *, is_specialized: bool) -> None:
        """It is part of a new table, which says this of it."""
        if facts.limit != self.facts.limit:
            self.concurrency = AdaptiveLimit(facts.limit)
        self.facts = facts
        self.price_per_hour = facts.price_per_hour
        self.is_specialized = is_specialized
        if is_specialized:
            self._is_open = True
        self.capacity = self._room()

    def join(self, seats: tuple[AnySeat, ...], standings: tuple[Standing, ...] = ()) -> None:
        """Its part in the new table: all of it was made with its load and state as they are.

        Args:
            seats: in the indexes.
            standings: of its models.
        """
        self.seats = seats
        self._standings = standings

    def _enter(self, state: State) -> None:
        change = (state == "available") - (self._state == "available")
        if change:
            for standing in self._standings:
                standing.healthy += change
        self._state = state
        self._carried = 0 if state == "available" else self.in_flight
        self._update()

    def _update(self) -> None:
        capacity = self._room()
        if capacity != self.capacity:
            self.resize(capacity)

    def _room(self) -> int:
        if not self._is_open or self._state in ("ejected", "retired"):
            return 0
        if self._state == "probation":
            return min(self.facts.limit, self._carried + 1)
        limit = self.facts.limit
        own = self.concurrency.limit if self.batch_limit is None else self.batch_limit.limit
        return min(limit, own, self._ramp(limit))

    def _ramp(self, limit: int) -> int:
        start = self._slow_start
        if start is None:
            return limit
        allowed = start.allowed(limit, self._clock.now)
        if allowed >= limit:
            self._slow_start = None
        return allowed


def _request_fields(facts: Backend) -> bytes:
    default_port = 443 if facts.scheme == "https" else 80
    host = facts.host if facts.port == default_port else f"{facts.host}:{facts.port}"
    return f" HTTP/1.1\r\nhost: {host}\r\n".encode()
