"""Engines as the model has them: continuous batching, and calls of texts behind a serial front."""

from collections import deque
from collections.abc import Callable

from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.gpu import Gpu


class _Front:
    """The HTTP front of an engine: one process, one thing at a time."""

    __slots__ = ("_clock", "_free_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at = 0.0

    def pass_through(self, seconds: float, then: Callable[[], None]) -> None:
        """Call when it has worked so long for this, after all that came before."""
        now = self._clock.now
        self._free_at = max(now, self._free_at) + seconds
        self._clock.call_later(self._free_at - now, then)


class Chat:
    """A chat request in an engine.

    Args:
        prompt_tokens: to be read.
        output_tokens: to be made; at least one.
        on_first_token: called when the first one is made.
        on_end: called when the last one is made.
        prompt: its tokens, where the engine may know them.
    """

    __slots__ = ("on_end", "on_first_token", "output_tokens", "prompt", "unread")

    def __init__(
        self,
        prompt_tokens: int,
        output_tokens: int,
        on_first_token: Callable[[], None],
        on_end: Callable[[], None],
        prompt: tuple[int, ...] = (),
    ) -> None:
        self.prompt = prompt
        self.unread = prompt_tokens
        self.output_tokens = output_tokens
        self.on_first_token = on_first_token
        self.on_end = on_end


class ChatEngine:
    """Makes a token for every sequence in each iteration, and reads prompts in what is left."""

    __slots__ = (
        "_costs",
        "_ends",
        "_front",
        "_gpu",
        "_is_busy",
        "_iteration",
        "_reading",
        "_unread",
        "running",
        "waiting",
    )

    def __init__(self, clock: Clock, costs: Costs, gpu: Gpu) -> None:
        self._costs = costs
        self._gpu = gpu
        self._front = _Front(clock)
        self._unread: deque[Chat] = deque()
        """In the order of their arrival; of the first, a part may have been read."""
        self._reading: list[Chat] = []
        """Those whose prompts end in the iteration that runs."""
        self._ends: dict[int, list[Chat]] = {}
        """By the iteration that makes their last token."""
        self._iteration = 0
        self._is_busy = False
        self.running = 0
        """Sequences that the engine computes, as its metrics say."""
        self.waiting = 0
        """Requests that found no room in the last iteration, as its metrics say.

        vLLM takes what arrives meanwhile out of its inbox only before the next one."""

    def accept(self, chat: Chat) -> None:
        """A request comes in."""
        self._front.pass_through(self._costs.chat_front_s, lambda: self._queue(chat))

    def _queue(self, chat: Chat) -> None:
        self._unread.append(chat)
        if not self._is_busy:
            self._iterate()

    def _iterate(self) -> None:
        tokens = self._read(self._costs.chat_iteration_tokens - self.running)
        self.running += len(self._reading)
        self.waiting = len(self._unread)
        self._is_busy = tokens > 0 or self.running > 0
        if not self._is_busy:
            return
        self._iteration += 1
        self._gpu.run(
            "llm",
            self._costs.chat_iteration(self.running, tokens),
            self._end_iteration,
            sequences=self.running,
            reads_prompts=tokens > 0,
        )

    def _read(self, room: int) -> int:
        """Choose the prompts, or parts of them, of the next iteration; returns their tokens."""
        tokens = 0
        reading = self._reading = []
        seats = self._costs.chat_sequences - self.running
        while self._unread and len(reading) < seats and tokens < room:
            chat = self._unread[0]
            part = min(chat.unread, room - tokens)
            tokens += part
            chat.unread -= part
            if not chat.unread:
                reading.append(self._unread.popleft())
        return tokens

    def _end_iteration(self) -> None:
        number = self._iteration
        reading = self._reading
        for chat in reading:
            self._ends.setdefault(number + chat.output_tokens - 1, []).append(chat)
        ended = self._ends.pop(number, ())
        self.running -= len(ended)
        for chat in reading:
            chat.on_first_token()
        for chat in ended:
            chat.on_end()
        self._iterate()


class Texts:
    """A call for embeddings in an engine.

    Args:
        texts: how many.
        tokens: of all of them.
        on_end: called when all are answered.
    """

    __slots__ = ("left", "on_end", "texts", "tokens")

    def __init__(self, texts: int, tokens: int, on_end: Callable[[], None]) -> None:
        self.texts = texts
        self.tokens = tokens
        self.left = texts
        """That are not computed yet."""
        self.on_end = on_end


class EmbeddingEngine:
    """Handles calls one by one in its front and computes what has come through together."""

    __slots__ = ("_clock", "_costs", "_front", "_gpu", "_is_busy", "_ready")

    def __init__(self, clock: Clock, costs: Costs, gpu: Gpu) -> None:
        self._clock = clock
        self._costs = costs
        self._gpu = gpu
        self._front = _Front(clock)
        self._ready: deque[Texts] = deque()
        self._is_busy = False

    def accept(self, call: Texts) -> None:
        """A call comes in."""
        self._front.pass_through(
            self._costs.embedding_front(call.texts), lambda: self._compute(call)
        )

    def _compute(self, call: Texts) -> None:
        self._ready.append(call)
        if not self._is_busy:
            self._iterate()

    def _iterate(self) -> None:
        room = self._costs.embedding_iteration_tokens
        tokens = 0
        computed: list[Texts] = []
        for call in self._ready:
            each = max(1, call.tokens // call.texts)
            fit = min(call.left, (room - tokens) // each)
            if not tokens and not fit:
                fit = 1
            call.left -= fit
            tokens += fit * each
            if call.left:
                break
            computed.append(call)
        if not tokens:
            return
        for _ in computed:
            self._ready.popleft()
        self._is_busy = True
        self._gpu.run(
            "embedding", self._costs.embedding_iteration(tokens), lambda: self._end(computed)
        )

    def _end(self, computed: list[Texts]) -> None:
        self._is_busy = False
        for call in computed:
            delay_s = call.texts * self._costs.embedding_text_delay_s
            self._clock.call_later(delay_s, call.on_end)
        self._iterate()
