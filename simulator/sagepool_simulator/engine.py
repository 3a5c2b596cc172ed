"""The engine's batch: who runs, who waits, and when tokens and vectors come out.

All that runs at once shares steps, as in a continuously batching engine: one timer serves every
sequence, and a step takes longer the more sequences it computes (see `Pace`).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sagepool_simulator.kvcache import Allocation, BlockCache
from sagepool_simulator.metrics import Metrics
from sagepool_simulator.settings import Pace, Settings


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None:
        """Forget it."""


class Clock(Protocol):
    """What the engine needs of an event loop."""

    def time(self) -> float:
        """Seconds since some moment."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call after `delay` seconds."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in the engine."""

    prompt: list[int]
    max_tokens: int
    """Length of each of its answers."""
    answers: int
    """How many answers it is asked for; they are computed side by side."""
    on_tokens: Callable[[int], None]
    """Called with the number of tokens that every answer has grown by."""
    on_finish: Callable[[], None]
    """Called when the last token is out."""
    finish_reason: str = "length"
    """What it counts as when it is done."""
    produced: int = 0
    started_at: float = 0.0
    allocation: Allocation | None = None
    timer: Timer | None = None
    cached_tokens: int = 0
    """Tokens of the prompt that were found in the prefix cache."""


@dataclass(slots=True, eq=False)
class EmbeddingCall:
    """An embedding request in the engine."""

    texts: int
    tokens: int
    on_finish: Callable[[], None]
    timer: Timer | None = None


class Engine:
    """Computes sequences and embedding calls at a pace."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._pace: Pace = settings.pace
        self._clock = clock
        self.cache = BlockCache(settings.kv_blocks)
        self.metrics = Metrics()
        self._waiting: deque[Sequence | EmbeddingCall] = deque()
        self._prefilling: set[Sequence] = set()
        self._decoding: dict[Sequence, None] = {}
        self._embedding: set[EmbeddingCall] = set()
        self._step_timer: Timer | None = None
        self._is_admitting = False

    @property
    def running(self) -> int:
        """Sequences and texts that are computed."""
        texts = sum(call.texts for call in self._embedding)
        return len(self._prefilling) + len(self._decoding) + texts

    @property
    def waiting(self) -> int:
        """Sequences and texts that wait for their turn."""
        return sum(w.texts if isinstance(w, EmbeddingCall) else 1 for w in self._waiting)

    @property
    def _at_once(self) -> int:
        return len(self._prefilling) + len(self._decoding) + len(self._embedding)

    def submit(self, work: Sequence | EmbeddingCall) -> None:
        """Take work; its callbacks may be called before this returns."""
        if isinstance(work, Sequence):
            work.started_at = self._clock.time()
        self._waiting.append(work)
        self._admit()

    def abort(self, work: Sequence | EmbeddingCall) -> None:
        """Forget work whose client has left; nothing is called for it any more."""
        if work.timer is not None:
            work.timer.cancel()
        if isinstance(work, EmbeddingCall):
            self._embedding.discard(work)
        else:
            self._prefilling.discard(work)
            self._decoding.pop(work, None)
            if work.allocation is not None:
                self.cache.release(work.allocation)
                work.allocation = None
        if work in self._waiting:
            self._waiting.remove(work)
        self.metrics.finished["abort"] += 1
        self._admit()

    def _admit(self) -> None:
        if self._is_admitting:  # instant work ends inside the loop below, which goes on by itself
            return
        self._is_admitting = True
        try:
            self._admit_all()
        finally:
            self._is_admitting = False

    def _admit_all(self) -> None:
        while self._waiting and self._at_once < self._settings.max_num_seqs:
            work = self._waiting[0]
            if isinstance(work, Sequence):
                work.allocation = self.cache.allocate(work.prompt, work.max_tokens * work.answers)
                if work.allocation is None:
                    return
            self._waiting.popleft()
            if isinstance(work, Sequence):
                self._begin(work)
            else:
                self._begin_embedding(work)

    def _slowdown(self) -> float:
        return 1.0 + self._pace.batch_slowdown * max(0, self._at_once - 1)

    def _begin(self, sequence: Sequence) -> None:
        self.metrics.prompt_tokens += len(sequence.prompt)
        self._prefilling.add(sequence)
        if sequence.allocation is not None:
            sequence.cached_tokens = sequence.allocation.cached_tokens
        computed = len(sequence.prompt) - sequence.cached_tokens
        delay = self._pace.first_token_s + self._pace.prefill_token_s * computed
        if delay:
            delay *= self._slowdown()
            sequence.timer = self._clock.call_later(delay, self._first_token, sequence)
        else:
            self._first_token(sequence)

    def _first_token(self, sequence: Sequence) -> None:
        sequence.timer = None
        self._prefilling.discard(sequence)
        self.metrics.first_token_seconds.observe(self._clock.time() - sequence.started_at)
        self._decoding[sequence] = None
        if self._pace.inter_token_s:
            self._produce(sequence, 1)
            self._plan_step()
        else:
            self._produce(sequence, sequence.max_tokens)

    def _plan_step(self) -> None:
        if self._step_timer is None and self._decoding:
            delay = self._pace.inter_token_s * self._slowdown()
            self._step_timer = self._clock.call_later(delay, self._step)

    def _step(self) -> None:
        self._step_timer = None
        for sequence in tuple(self._decoding):
            if sequence in self._decoding:  # a callback may have aborted it
                self._produce(sequence, 1)
        self._plan_step()

    def _produce(self, sequence: Sequence, tokens: int) -> None:
        sequence.produced += tokens
        self.metrics.generation_tokens += tokens * sequence.answers
        sequence.on_tokens(tokens)
        if sequence.produced < sequence.max_tokens or sequence not in self._decoding:
            return
        del self._decoding[sequence]
        if sequence.allocation is not None:
            self.cache.release(sequence.allocation)
            sequence.allocation = None
        self.metrics.finished[sequence.finish_reason] += 1
        self.metrics.request_seconds.observe(self._clock.time() - sequence.started_at)
        sequence.on_finish()
        self._admit()

    def _begin_embedding(self, call: EmbeddingCall) -> None:
        self.metrics.prompt_tokens += call.tokens
        self._embedding.add(call)
        delay = self._pace.embed_call_s + self._pace.embed_token_s * call.tokens
        if delay:
            delay *= self._slowdown()
            call.timer = self._clock.call_later(delay, self._end_embedding, call)
        else:
            self._end_embedding(call)

    def _end_embedding(self, call: EmbeddingCall) -> None:
        call.timer = None
        self._embedding.discard(call)
        self.metrics.finished["stop"] += 1
        call.on_finish()
        self._admit()
