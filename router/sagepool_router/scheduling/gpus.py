"""The GPUs that llm and embedding work share, with the instances and the queues that they serve."""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final, Protocol

from sagepool_crds.pool import Role
from sagepool_router.scheduling.instance import AnyLane, Instance
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.shared_gpu import Demand, SharedGpu

PULSE_S: Final = 0.02
"""How often a GPU that both kinds wait for is judged anew, beside every start and end there."""
_FRESH_S: Final = 0.0005
"""A judgement stands for so long if nothing has happened: a call that ends is followed at once by
the next one, which asks again."""
_PULSE_A_GPU_S: Final = 0.0005
"""With many GPUs each is judged less often: it stays at about one percent of a core."""


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Gpu:
    """A GPU that both kinds share."""

    __slots__ = ("_by_kind", "_embeddings", "_llm", "fresh_until", "lanes", "places", "state")

    def __init__(self, state: SharedGpu) -> None:
        self.state = state
        self.places: tuple[Instance, ...] = ()
        self.lanes: dict[Role, list[AnyLane]] = {"llm": [], "embedding": []}
        self._by_kind: dict[Role, tuple[Instance, ...]] = {"llm": (), "embedding": ()}
        self._llm = Demand()
        self._embeddings = Demand()
        self.fresh_until = 0.0
        """The judgement stands until then, unless what waits changes; to be reset by events."""

    def host(self, places: Iterable[Instance]) -> None:
        """It has these instances now; the gates of those that have left are opened."""
        self.fresh_until = 0.0
        before, self.places = self.places, tuple(places)
        for place in before:
            if place not in self.places:
                place.gpu = None
                place.open_gate(True)
        self._by_kind = {
            kind: tuple(place for place in self.places if place.kind == kind) for kind in self.lanes
        }
        self.lanes = {"llm": [], "embedding": []}

    def judge(self, now: float) -> bool:
        """Open and close the gates; True if one has opened."""
        llm, embeddings = self._llm, self._embeddings
        is_same = self._count(llm, "llm")
        is_same = self._count(embeddings, "embedding") and is_same
        if is_same and now < self.fresh_until:
            return False
        self.fresh_until = now + _FRESH_S
        state = self.state
        was_open_llm, was_open_embedding = state.may_start_llm, state.may_start_embedding
        self._weigh(llm, "llm", was_open_llm)
        self._weigh(embeddings, "embedding", was_open_embedding)
        if not state.judge(now, llm, embeddings):
            return False
        self.apply()
        return (state.may_start_llm and not was_open_llm) or (
            state.may_start_embedding and not was_open_embedding
        )

    def apply(self) -> None:
        """Set the gates of all its instances."""
        for place in self._by_kind["llm"]:
            place.open_gate(self.state.may_start_llm)
        for place in self._by_kind["embedding"]:
            place.open_gate(self.state.may_start_embedding)

    def is_left_to(self, kind: Role, now: float) -> bool:
        """Whether work of this kind may come and go without a judgement.

        Both gates are open and the other kind does not want the GPU: nothing of it waits, and
        nothing of it that counts is under way. The first that comes has it judged.
        """
        state = self.state
        if not (state.may_start_llm and state.may_start_embedding):
            return False
        if state.calls if kind == "llm" else state.is_wanted_by_llm(now):
            return False
        for lane in self.lanes["embedding" if kind == "llm" else "llm"]:
            if lane.queue.count:
                return False
        return True

    @property
    def is_contended(self) -> bool:
        """Whether time alone may change what may start: a gate is closed, or both kinds wait."""
        state = self.state
        if not (state.may_start_llm and state.may_start_embedding):
            return True
        return self._waits("embedding") and (state.llm_unanswered > 0 or self._waits("llm"))

    def _waits(self, kind: Role) -> bool:
        return any(lane.queue.count for lane in self.lanes[kind])

    def _count(self, demand: Demand, kind: Role) -> bool:
        """Count what waits; True if it is as many as before."""
        waiting = 0
        for lane in self.lanes[kind]:
            waiting += lane.queue.count
        before, demand.waiting = demand.counted, waiting
        demand.counted = waiting
        return waiting == before

    def _weigh(self, demand: Demand, kind: Role, is_open: bool) -> None:
        """See since when it waits. What nothing could serve, as all are out, takes no part."""
        demand.oldest_at = inf
        if not demand.waiting:
            return
        if is_open and not any([place.capacity for place in self._by_kind[kind]]):
            demand.waiting = 0
            return
        for lane in self.lanes[kind]:
            if lane.queue.count:
                oldest_at = lane.queue.oldest_at()
                if oldest_at < demand.oldest_at:
                    demand.oldest_at = oldest_at


class Gpus(dict[str, Gpu]):
    """Those of the table, by name. Their gates move with what happens there, and with time.

    Args:
        serve: called with queues that may be served again, because a gate has opened.
        clock: seconds, monotonic.
        call_later: calls once after so many seconds.
    """

    def __init__(
        self,
        serve: Callable[[Iterable[AnyLane]], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        super().__init__()
        self._serve = serve
        self._clock = clock
        self._call_later = call_later
        self._opened: list[Gpu] = []
        """Gates have opened there and nobody has been served since."""
        self._pulse: Timer | None = None

    # The world.

    def swap(self, settings: SchedulingSettings, places: Mapping[str, Iterable[Instance]]) -> None:
        """Follow a new table; what was learnt of a GPU that stays is kept."""
        for name in self.keys() - places.keys():
            self.pop(name).host(())
        for name, own in places.items():
            gpu = self.get(name)
            if gpu is None:
                gpu = self[name] = Gpu(SharedGpu(settings))
            gpu.state.configure(settings)
            gpu.host(own)

    def connect(self, lanes: Iterable[AnyLane]) -> None:
        """Tell instances of their GPUs and queues, and GPUs of the queues that they serve."""
        lanes = tuple(lanes)
        for lane in lanes:
            for member in lane.placement.members:
                member.lanes = []
                member.gpu = None
        for gpu in self.values():
            for place in gpu.places:
                place.gpu = gpu
        for lane in lanes:
            for member in lane.placement.members:
                member.lanes.append(lane)
                shared = member.gpu
                if shared is not None and lane not in shared.lanes[lane.kind]:
                    shared.lanes[lane.kind].append(lane)

    # What happens on a GPU; `key` is the same for the beginning and the end of a call.

    def enter(
        self, key: object, place: Instance, arrived_at: float, now: float, *, streams: bool
    ) -> Gpu | None:
        """A call goes to an instance; returns the GPU that has to be told of its end."""
        gpu = place.gpu
        if gpu is None:
            return None
        gpu.fresh_until = 0.0
        kind = place.kind
        if kind == "llm":
            gpu.state.llm_placed(key, arrived_at, now, streams=streams)
        else:
            gpu.state.embedding_began(now)
        if gpu.is_left_to(kind, now):
            return gpu
        self.judge(gpu, now)
        if gpu.is_contended:
            self.beat()
        return gpu

    def answered(self, gpu: Gpu, key: object) -> None:
        """The first byte of an llm stream has come."""
        now = self._clock()
        gpu.fresh_until = 0.0
        gpu.state.llm_answered(key, now)
        if not gpu.is_left_to("llm", now):
            self.judge(gpu, now)

    def leave(self, gpu: Gpu, key: object, kind: Role, now: float) -> None:
        """A call has ended."""
        gpu.fresh_until = 0.0
        if kind == "llm":
            gpu.state.llm_left(key)
        else:
            gpu.state.embedding_ended()
        if not gpu.is_left_to(kind, now):
            self.judge(gpu, now)

    # The gates.

    def judge(self, gpu: Gpu, now: float) -> None:
        """Open and close the gates of one; `serve_opened` has to follow."""
        if gpu.judge(now):
            self._opened.append(gpu)
        elif self._pulse is None and not gpu.state.may_start_embedding:
            self.beat()  # what an engine has said may have closed the gate, and time opens it

    def judge_all(self, now: float) -> None:
        """Judge every one; `serve_opened` has to follow."""
        for gpu in self.values():
            self.judge(gpu, now)

    def serve_opened(self) -> None:
        """Have those served where a gate has opened meanwhile."""
        while self._opened:
            gpu = self._opened.pop()
            self._serve((*gpu.lanes["embedding"], *gpu.lanes["llm"]))

    def beat(self) -> None:
        """See to it that contended GPUs are judged soon; with many of them, less often."""
        if self._pulse is None:
            delay_s = max(PULSE_S, _PULSE_A_GPU_S * len(self))
            self._pulse = self._call_later(delay_s, self._on_pulse)

    def _on_pulse(self) -> None:
        self._pulse = None
        self.judge_all(self._clock())
        self.serve_opened()
        if any(gpu.is_contended for gpu in self.values()):
            self.beat()
