"""The one place where work meets instances: admits, lets wait, merges, places, takes back.

Pure but for the timers that it asks for: the caller gives clock, randomness and `call_later`, and
is told what to start by `start`. The router's dispatcher and the simulation in bench/ run the same
object.

Placing costs the same for any number of instances, queueing the logarithm of what waits.

`start` may end its call before it returns: whoever serves a queue meanwhile goes on with it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from typing import Final, Generic

from sagepool_crds.pool import Role
from sagepool_router.scheduling.calls import Call, QueueFullError
from sagepool_router.scheduling.decisions import DecisionLog
from sagepool_router.scheduling.embedding_work import EmbeddingWork, Slice
from sagepool_router.scheduling.gpus import Gpu, Gpus, Timer
from sagepool_router.scheduling.instance import AnyLane, Instance, InstanceT
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.lanes import Lanes, serve_in_turn
from sagepool_router.scheduling.placement import Choice, Placement
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.windows import Windows
from sagepool_router.scheduling.work import Work

__all__ = ["AnyLane", "Call", "Gpu", "Instance", "QueueFullError", "Scheduler", "Timer"]

_SHARE: Final = 3
"""A flow may wait with so many times what is free (dynamic thresholds; Choudhury, Hahne 1998)."""
_MODELS_SHARE: Final = 8
"""So many, a model beside others."""
_PASSED_OVER: Final = 8
"""So many that only a place without room would do for stand aside for those behind them."""


class Scheduler(Generic[InstanceT]):
    """Queues and instances of one pool.

    Args:
        settings: of the pool.
        start: called with every call that is to be sent; must not raise.
        cut: makes an embedding request's texts known (`EmbeddingWork.cut`); may raise.
        clock: seconds, monotonic.
        random: uniform in [0, 1).
        call_later: calls once after so many seconds.
    """

    def __init__(
        self,
        settings: SchedulingSettings,
        *,
        start: Callable[[Call[InstanceT]], None],
        cut: Callable[[EmbeddingWork[InstanceT]], None],
        clock: Callable[[], float],
        random: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self.settings = settings
        self.lanes: Lanes[InstanceT] = Lanes(random)
        self.gpus = Gpus(self._serve_lanes, clock, call_later)
        self.waiting = 0
        """Requests in all queues."""
        self.log: DecisionLog[InstanceT] = DecisionLog()
        self._start = start
        self._cut = cut
        self._clock = clock
        self._windows: Windows[Lane[InstanceT]] = Windows(self._close_window, call_later)

    def swap(
        self,
        settings: SchedulingSettings,
        lanes: Mapping[tuple[str, Role], Sequence[InstanceT]],
        gpus: Mapping[str, Iterable[InstanceT]],
    ) -> dict[tuple[str, Role], Placement[InstanceT]]:
        """Use new settings and instances. What waits goes on waiting, in its new order.

        Args:
            settings: of the pool.
            lanes: the instances by model and role.
            gpus: those GPUs that serve both kinds: their instances.

        Returns:
            the placements, whose seats the instances have to keep. `resume` has to follow once
            they do, and `drop_unlisted` if the owners of what the table has no model for are to
            know it.
        """
        self.settings = settings
        self.gpus.swap(settings, gpus)  # before capacities are read: it opens gates
        placements = self.lanes.swap(settings, lanes)
        self.gpus.connect(self.lanes.values())
        return placements

    def drop_unlisted(self) -> list[Work[InstanceT]]:
        """Take out all that waits for models which the table does not list any more.

        It can only be refused. Whatever is not dropped waits for its model to come back.
        """
        dropped = self.lanes.drop_unlisted()
        self.waiting -= len(dropped)
        return dropped

    def resume(self) -> None:
        """Serve every queue: capacities or members have changed."""
        now = self._clock()
        for gpu in self.gpus.values():
            gpu.apply()
        self.gpus.judge_all(now)
        self._serve_all()

    def sweep(self) -> None:
        """Take slow changes in: to be called a few times a second."""
        now = self._clock()
        for placement in {id(x.placement): x.placement for x in self.lanes.values()}.values():
            placement.measure()
        for lane in self.lanes.values():
            lane.review(now)
        self.gpus.judge_all(now)
        self._serve_all()

    # Work.

    def submit(self, lane: Lane[InstanceT], work: Work[InstanceT]) -> None:
        """Place work now (`start` is called before this returns) or let it wait.

        Raises:
            QueueFullError: it is not taken.
        """
        now = self._clock()
        is_next = not lane.queue.count
        if is_next and self._place_at_once(lane, work, now):
            if self.gpus:
                self.gpus.serve_opened()
            return
        self._prepare(lane, work, now, is_next)
        lane.wait(work, now)
        self.waiting += 1
        self.serve(lane)
        if lane.queue.count and self.gpus:
            self.gpus.beat()
        self.gpus.serve_opened()

    def _prepare(
        self, lane: Lane[InstanceT], work: Work[InstanceT], now: float, is_next: bool
    ) -> None:
        """See whether work may wait, and get it ready to."""
        free = self.settings.queue.max_requests - self.waiting
        if free > 0:
            if lane.queue.count > _MODELS_SHARE * free and len(self.lanes) > 1:
                raise QueueFullError(lane.rate.promise(now, lane.queue.count), "model")
            share = _SHARE * free
            if work.flow and self.waiting > share and self.lanes.of_flow(work.flow) > share:
                raise QueueFullError(lane.rate.promise(now, lane.queue.count), "flow")
        else:
            # a large request has to pass through the queue even if it need not wait in it
            is_large = isinstance(work, EmbeddingWork) and lane.is_large(work)
            if not (is_next and is_large and lane.choose(work, now) is not None):
                raise QueueFullError(lane.rate.promise(now, lane.queue.count))
        if isinstance(work, EmbeddingWork) and lane.merges and not work.text_tokens:
            self._cut(work)

    def cancel(self, lane: Lane[InstanceT], work: Work[InstanceT]) -> None:
        """Work that waits is not wanted any more; its texts that have left go on."""
        if work.state != "waiting":
            return
        lane.cancel(work)
        self.waiting -= 1
        self.lanes.forget(lane)

    def alternative(
        self, call: Call[InstanceT], tried: Collection[InstanceT]
    ) -> Choice[InstanceT] | None:
        """Where else a call that failed could go; None when no other instance has room."""
        return call.lane.choose(call.work, self._clock(), tried)

    def move(self, call: Call[InstanceT], choice: Choice[InstanceT]) -> None:
        """Charge another instance for a call instead of the one that it was placed on."""
        now = self._clock()
        left = call.place
        self._leave(call)
        call.place = call.work.place = choice.place
        call.placed_at = now
        call.reason = "retry"
        self._enter(call, now)
        self._serve_lanes(left.lanes)
        self.gpus.serve_opened()

    def requeue(self, call: Call[InstanceT], slices: Sequence[Slice[InstanceT]]) -> bool:
        """Let a call's work, or these texts of it, wait again; then it ends. False: no room."""
        room = self.settings.queue.max_requests - self.waiting
        count = call.lane.take_back(call.work, slices, room if self.lanes.knows(call.lane) else -1)
        self.waiting += count or 0
        return count is not None

    def divide(self, call: Call[InstanceT], slices: Sequence[Slice[InstanceT]]) -> None:
        """Send a part of a call that was refused, at once and to the same instance.

        It has had its turn: it does not wait again, even if the instance is full.
        """
        choice = Choice(call.place, "divided")
        self._send(call.lane, slices[0].work, slices, choice, self._clock())
        self.gpus.serve_opened()

    def force(
        self,
        lane: Lane[InstanceT],
        work: Work[InstanceT],
        place: InstanceT,
        reason: str = "last_resort",
    ) -> None:
        """Place work on an instance that no rule would choose; `start` is called."""
        now = self._clock()
        if place in lane.placement.members:
            lane.pass_by(work, now)
        else:
            # from outside of the pool: it takes nobody's turn, and nobody ages by it
            work.state = "placed"
        self._send(lane, work, _whole(work), Choice(place, reason), now)
        self.gpus.serve_opened()

    def answered(self, call: Call[InstanceT]) -> None:
        """The first byte of a stream has come. An answer that comes as a whole has ended then."""
        if call.work.kind != "llm" or call.is_answered:
            return
        call.is_answered = True
        call.place.answered()
        gpu = call.gpu
        if gpu is not None:
            self.gpus.answered(gpu, call)
            self.gpus.serve_opened()

    def finished(self, call: Call[InstanceT]) -> None:
        """A call has ended, however: its place is free."""
        self._leave(call)
        if self.waiting:
            lanes = call.place.lanes
            if len(lanes) == 1:
                self.serve(lanes[0])
            else:
                self._serve_lanes(lanes)
        if self.gpus:
            self.gpus.serve_opened()

    # Serving.

    def serve(self, lane: Lane[InstanceT]) -> None:
        """Place what waits, as far as there is room."""
        while lane.placement.has_room and self._serve_one(lane):
            pass

    def _serve_one(self, lane: Lane[InstanceT]) -> bool:
        """Place what is due; False if it has to wait."""
        if lane.is_served:
            return False
        lane.is_served = True
        try:
            return self._serve_next(lane, self._clock())
        finally:
            lane.is_served = False

    def _serve_next(self, lane: Lane[InstanceT], now: float) -> bool:
        work, choice = self._next(lane, now)
        if work is None or choice is None:
            return False
        slices: Sequence[Slice[InstanceT]] = ()
        before = lane.queue.count
        if isinstance(work, EmbeddingWork):
            if choice.place.in_flight:
                ready, wait_s = lane.ready(work, now)
                if ready is None:
                    self._windows.open(lane, now, wait_s)
                    return False
                work = ready
            slices = lane.take_batch(work, now)
        else:
            lane.take(work, now)
        self.waiting -= before - lane.queue.count
        self._send(lane, work, slices, choice, now)
        return True

    def _next(
        self, lane: Lane[InstanceT], now: float
    ) -> tuple[Work[InstanceT] | None, Choice[InstanceT] | None]:
        """What is due and where it goes."""
        work = lane.next(now)
        if work is None:
            return None, None
        choice = self._choose(lane, work, now)
        if choice is None and (work.budget != inf or work.avoids) and lane.placement.has_room:
            # what it can afford is full: it does not keep those behind it from what is not
            for other in lane.queue.first(_PASSED_OVER)[1:]:
                choice = self._choose(lane, other, now)
                if choice is not None:
                    return other, choice
        return work, choice

    def _choose(
        self, lane: Lane[InstanceT], work: Work[InstanceT], now: float
    ) -> Choice[InstanceT] | None:
        choice = lane.choose(work, now)
        if lane.merges and choice is not None and choice.place.in_flight:
            choice = lane.placement.idle() or choice  # an idle engine is given what there is
        while choice is not None and (gpu := choice.place.gpu) is not None:
            place = choice.place
            if gpu.is_left_to(place.kind, now):
                break
            self.gpus.judge(gpu, now)
            if place.in_flight < place.capacity:
                break
            choice = lane.choose(work, now)  # its gate has closed since it was judged last
        return choice

    def _close_window(self, lane: Lane[InstanceT]) -> None:
        self.serve(lane)
        self.gpus.serve_opened()

    def _place_at_once(self, lane: Lane[InstanceT], work: Work[InstanceT], now: float) -> bool:
        if isinstance(work, EmbeddingWork) and lane.is_large(work):
            return False
        choice = self._choose(lane, work, now)
        if choice is None:
            return False
        if lane.merges and choice.place.in_flight:
            may_wait = self.waiting < self.settings.queue.max_requests
            if may_wait and now < work.arrived_at + self.settings.max_embedding_wait_s:
                return False
        lane.pass_by(work, now)
        self._send(lane, work, () if work.kind == "llm" else _whole(work), choice, now)
        return True

    def _send(
        self,
        lane: Lane[InstanceT],
        work: Work[InstanceT],
        slices: Sequence[Slice[InstanceT]],
        choice: Choice[InstanceT],
        now: float,
    ) -> None:
        place = choice.place
        texts = 0
        for piece in slices:
            piece.work.place = place
            piece.work.placed_at = now
            texts += piece.end - piece.begin
        if not slices:
            work.place = place
            work.placed_at = now
        call = Call(lane, work, slices, place, lane.label, choice.reason, now, texts)
        self._enter(call, now)
        self._start(call)

    def _serve_all(self) -> None:
        if self.waiting:
            self._serve_lanes(self.lanes.values())
        self.gpus.serve_opened()

    def _serve_lanes(self, lanes: Iterable[Lane[InstanceT]]) -> None:
        """Serve lanes that compete for the same places."""
        waiting = [lane for lane in lanes if lane.queue.count and lane.placement.has_room]
        if len(waiting) == 1:
            self.serve(waiting[0])
        elif waiting:
            serve_in_turn(waiting, self._serve_one)

    # Accounting.

    def _enter(self, call: Call[InstanceT], now: float) -> None:
        place, work = call.place, call.work
        if work.kind == "llm":
            place.unanswered += 1
        place.charge()
        call.in_flight = place.in_flight
        if place.gpu is not None:
            call.gpu = self.gpus.enter(call, place, work.arrived_at, now, streams=work.streams)

    def _leave(self, call: Call[InstanceT]) -> None:
        place = call.place
        if call.work.kind == "llm" and not call.is_answered:
            place.unanswered -= 1
        place.release()
        gpu = call.gpu
        if gpu is not None:
            call.gpu = None
            self.gpus.leave(gpu, call, place.kind, self._clock())


def _whole(work: Work[InstanceT]) -> Sequence[Slice[InstanceT]]:
    """All texts of work that travels alone; none if it has none."""
    if not isinstance(work, EmbeddingWork):
        return ()
    work.taken = work.texts
    return (Slice(work, 0, work.texts),)
