"""Chat protected from embeddings on a GPU that both use.

The time to first token is a late signal, so the age of the oldest chat that still waits for its
first byte leads: beyond a tenth of the target chat waits for the GPU, beyond a fifth no embedding
call starts. That is early on purpose: what has started goes on for a while, and in a burst those
that have come since will wait for longer than the oldest has. The number of calls that may be under
way follows the measured time to first token by additive increase and multiplicative decrease. When
the target is missed although no embedding runs, holding them back cannot help: for a while the
window is its floor and the share of time decides.

Beside it the chat engines' own word counts (`EnginePressure`): it comes only twice a second, but
it tells of what this router cannot see, such as other routers' requests and the cache of a stream
that has begun long ago.

Sources: Lo et al.: Heracles (ISCA 2015), for growing best-effort work by the latency of the other;
Sun et al.: HyGen (2025), for the same with two kinds of inference.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

Shortage: TypeAlias = Literal["engine_queue", "engine_kv_cache"]
"""What a chat engine says that it is short of."""

PERIOD_S: Final = 0.5
MAX_WINDOW: Final = 8.0
FLOOR: Final = 1.0
"""Calls that may be under way when there is no doubt of the oldest chat."""
_SHRINK: Final = 0.7
_GROW: Final = 0.25
_SAFE: Final = 0.8
_WAITS: Final = 0.1
"""Of the target: what an engine at ease needs for a prompt is less."""
_OLDEST: Final = 0.2
"""Of the target: half of it saved no texts in bursts (docs/scheduling-simulation.md), but chats."""
_KEPT: Final = 64
RETRY_S: Final = 10.0
"""After so long a target that could not be reached is tried again."""
FRESH_S: Final = 1.5
"""A reading counts for so long: the interval between two, and the longest that an answer takes."""
FULL: Final = 0.9
"""KV use at which an engine is short. At 1 it preempts streams that have begun, and reads their
prompts again; a tenth is what the streams under way grow by meanwhile."""
EASED: Final = 0.8
"""KV use at which it is so no more: an answer that ends must not let embeddings in and out."""


class HoldBack:
    """The window of one GPU.

    Args:
        target_s: chat's time to first token.
    """

    __slots__ = (
        "_given_up_at",
        "_judged_at",
        "_ran",
        "_samples",
        "is_reachable",
        "target_s",
        "window",
    )

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self.window = MAX_WINDOW
        """Embedding calls that may be under way."""
        self.is_reachable = True
        """False: chat misses its target without any embedding beside it."""
        self._samples: list[float] = []
        self._ran = False
        self._judged_at = 0.0
        self._given_up_at = 0.0

    def observe_first_token(self, seconds: float) -> None:
        """A chat on this GPU has begun to be answered."""
        if len(self._samples) < _KEPT:
            self._samples.append(seconds)

    def embedding_began(self) -> None:
        """An embedding call starts."""
        self._ran = True

    def tick(self, now: float, calls: int) -> None:
        """Judge the last period; may be called at any time.

        Args:
            now: clock time.
            calls: embedding calls under way.
        """
        if now - self._judged_at < PERIOD_S:
            return
        self._judged_at = now
        samples, self._samples = self._samples, []
        ran, self._ran = self._ran or calls > 0, False
        if not samples:
            self.window = min(MAX_WINDOW, self.window + _GROW)
            return
        samples.sort()
        pressure = samples[int(0.9 * (len(samples) - 1))] / self.target_s
        if pressure > 1:
            if not ran:
                self.is_reachable = False
                self._given_up_at = now
            elif now - self._given_up_at >= RETRY_S:
                self.is_reachable = True
            self.window = max(FLOOR, self.window * _SHRINK)
        else:
            self.is_reachable = True
            if pressure < _SAFE:
                self.window = min(MAX_WINDOW, self.window + _GROW)

    def is_waiting(self, oldest_age_s: float) -> bool:
        """Whether a chat waits for the GPU, and is not just being read.

        Args:
            oldest_age_s: how long the oldest chat has waited for its first byte.
        """
        return oldest_age_s > _WAITS * self.target_s

    def may_start(self, calls: int, oldest_age_s: float) -> bool:
        """Whether an embedding call may start now.

        Args:
            calls: embedding calls under way.
            oldest_age_s: how long the oldest chat has waited for its first byte; 0 without one.
        """
        if not self.is_reachable:
            return calls < FLOOR
        return calls < self.window and oldest_age_s <= _OLDEST * self.target_s


class _Reading(NamedTuple):
    """What an engine that is short said last."""

    at: float
    waiting: int
    is_full: bool


class EnginePressure:
    """Whether chat engines on one GPU say that they are short of room, and of what.

    A single reading with something waiting is enough: engines count what found no room in their
    last step, not what has come since.
    """

    __slots__ = ("_ignored_until", "_readings", "cause", "since", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """They are short, unless they say otherwise, until then; in the past: they are not."""
        self.since = 0.0
        """When that began."""
        self.cause: Shortage = "engine_queue"
        """What they are, or were, short of."""
        self._readings: dict[str, _Reading] = {}
        """Of the engines that are short."""
        self._ignored_until = 0.0

    def observe(self, now: float, engine: str, waiting: int, kv_use: float) -> None:
        """An engine has said how it is.

        Args:
            now: clock time.
            engine: its name.
            waiting: requests that wait inside it.
            kv_use: the part of its KV cache that is in use, 0 to 1.
        """
        fresh = {e: r for e, r in self._readings.items() if now - r.at < FRESH_S}
        before = fresh.pop(engine, None)
        is_full = kv_use >= (EASED if before is not None and before.is_full else FULL)
        if waiting > 0 or is_full:
            fresh[engine] = _Reading(now, waiting, is_full)
        self._readings = fresh
        if not fresh or now < self._ignored_until:
            self.until = 0.0
            return
        if now >= self.until:
            self.since = now
        self.until = max(reading.at for reading in fresh.values()) + FRESH_S
        is_queue = any(reading.waiting for reading in fresh.values())
        self.cause = "engine_queue" if is_queue else "engine_kv_cache"

    def give_up(self, now: float) -> None:
        """They stay short whatever embeddings do: for a while what they say counts for nothing."""
        self.until = 0.0
        self._ignored_until = now + RETRY_S
