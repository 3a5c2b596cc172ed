"""A GPU on which at most one iteration of each kind of engine runs at a time."""

from collections.abc import Callable

from bench.simulation.clock import Clock, Event
from bench.simulation.costs import Costs
from sagepool_crds.pool import Role


class _Iteration:
    """Work under way: what is left of it, and how fast it goes."""

    __slots__ = ("end", "event", "left_s", "reads_prompts", "sequences", "since", "slowdown")

    def __init__(
        self, seconds: float, end: Callable[[], None], sequences: int, *, reads_prompts: bool
    ) -> None:
        self.left_s = seconds
        self.end = end
        self.sequences = sequences
        self.reads_prompts = reads_prompts
        self.slowdown = 1.0
        self.since = 0.0
        self.event: Event | None = None


class Gpu:
    """Runs iterations, and slows them down while those of the other kind run beside them."""

    __slots__ = ("_clock", "_costs", "_running")

    def __init__(self, clock: Clock, costs: Costs) -> None:
        self._clock = clock
        self._costs = costs
        self._running: dict[Role, _Iteration] = {}

    def run(
        self,
        kind: Role,
        seconds: float,
        end: Callable[[], None],
        *,
        sequences: int = 0,
        reads_prompts: bool = False,
    ) -> None:
        """Start an iteration that would take so long alone; `end` is called when it has ended."""
        iteration = _Iteration(seconds, end, sequences, reads_prompts=reads_prompts)
        iteration.since = self._clock.now
        self._running[kind] = iteration
        self._pace()

    def _pace(self) -> None:
        """Set the speed of what runs, as something has started or ended."""
        chat = self._running.get("llm")
        texts = self._running.get("embedding")
        if chat is not None:
            slowdown = self._costs.chat_slowdown(chat.sequences) if texts is not None else 1.0
            self._set("llm", chat, slowdown)
        if texts is not None:
            slowdown = 1.0
            if chat is not None:
                slowdown = self._costs.embedding_slowdown(
                    chat.sequences, reads_prompts=chat.reads_prompts
                )
            self._set("embedding", texts, slowdown)

    def _set(self, kind: Role, iteration: _Iteration, slowdown: float) -> None:
        if iteration.event is not None:
            if slowdown == iteration.slowdown:
                return
            iteration.event.cancel()
        now = self._clock.now
        iteration.left_s -= (now - iteration.since) / iteration.slowdown
        iteration.since = now
        iteration.slowdown = slowdown
        delay_s = max(0.0, iteration.left_s) * slowdown
        iteration.event = self._clock.call_later(delay_s, lambda: self._end(kind, iteration))

    def _end(self, kind: Role, iteration: _Iteration) -> None:
        del self._running[kind]
        iteration.end()  # mostly it starts the next one
        self._pace()
