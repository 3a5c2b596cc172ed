"""How many LLM requests one router keeps in flight on one instance. Pure.

What an engine cannot run yet should wait in the router's queue, where the policy acts, and not
inside the engine, where the first come are the first served. How much an engine can run depends
on its model, its memory and its prompts, so it is found out from the engine's own metrics.
"""

from typing import Final

SAMPLES_TO_SHRINK: Final = 2
"""In a row with something waiting: a request that came within the last step waits in one."""
SAMPLES_TO_HURRY: Final = 4
"""In a row with growth: the old limit has nothing to do any more with what the engine can run."""
_FULL: Final = 0.9
"""The part of the limit that has to be in use before the limit can have been too low."""


class AdaptiveLimit:
    """The limit of one instance: grows while nothing waits there, shrinks when something does.

    It starts at the ceiling. When requests wait in the engine it falls to this router's share
    of what runs there; when nothing waits and the limit is nearly used up it grows: by one, so
    that it stays close to what it has found, and after a while by a tenth, so that it follows an
    engine that can run more than before.

    Several routers need not know of each other: all see the same queue and give up the same part
    of what they have, but grow by the same number, which brings their shares together (additive
    increase, multiplicative decrease; Chiu and Jain 1989). Fractions are kept, as rounding down
    would take from the smaller share what it has grown by. After the first shrinking it shrinks
    further only while the engine's queue does not get shorter: else a router whose requests came
    first would give up once more for each sample in which another's are still waiting.

    Clients that go to the engine past the routers and keep requests waiting there push the limit
    down to one.
    """

    __slots__ = ("_ceiling", "_growths", "_has_shrunk", "_last_waiting", "_limit", "_waits")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = max(1, ceiling)
        self._limit = float(self._ceiling)
        self._waits = 0
        """Samples in a row with something waiting."""
        self._last_waiting = 0
        self._has_shrunk = False
        """Since nothing waited."""
        self._growths = 0
        """Growths since something waited."""

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return int(self._limit)

    def observe(self, running: int, waiting: int, in_flight: int) -> bool:
        """Take in a fresh sample; True if the limit has changed.

        Args:
            running: requests that the engine computes, whoever sent them.
            waiting: requests that wait inside the engine.
            in_flight: this router's requests there at this moment.
        """
        before = self.limit
        if waiting > 0:
            self._growths = 0
            self._waits += 1
            # what was given up already leaves the engine only as it is answered
            is_draining = self._has_shrunk and waiting < self._last_waiting
            if self._waits >= SAMPLES_TO_SHRINK and not is_draining:
                self._has_shrunk = True
                self._shrink(running / (running + waiting), in_flight)
        else:
            self._waits = 0
            self._has_shrunk = False
            if in_flight >= _FULL * self.limit:
                self._growths += 1
                self._grow(1 if self._growths <= SAMPLES_TO_HURRY else self.limit // 10)
        self._last_waiting = waiting
        return self.limit != before

    def forget(self) -> bool:
        """The samples are too old to count; True if the limit has changed.

        To be called once per missed sample while something is in flight. The limit drifts to the
        ceiling by a tenth a call. It cannot stay: without samples it could never grow again, and
        an instance whose metrics have gone would be held at a number from another hour. It does
        not jump: the likeliest reason for silence is an engine too busy to answer, and that one
        must not get all at once what was held back from it. An idle instance is not asked and
        forgets nothing: what it can run does not change with waiting for work.
        """
        before = self.limit
        self._waits = self._growths = 0
        self._has_shrunk = False
        self._grow(self.limit // 10)
        return self.limit != before

    def _shrink(self, running_part: float, in_flight: int) -> None:
        # while the limit is used up its fraction is in use too, now and then
        own = self._limit if in_flight == self.limit else in_flight
        self._limit = max(1.0, min(self._limit, own * running_part))

    def _grow(self, by: int) -> None:
        self._limit = min(float(self._ceiling), self._limit + max(1, by))


class SlowStart:
    """A new instance is given little at first: it warms up, and its metrics are not known yet.

    Least-loaded choice would send everything that comes to the empty newcomer at once. An
    instance that has refused a call for being full starts anew after a pause.

    Args:
        born_at: nothing before, little from then on.
        pause_s: that it has had before.
    """

    __slots__ = ("_born_at", "_pause_s")

    RAMP_S: Final = 30.0
    """Until this age what it is allowed rises in proportion to the age."""
    AT_LEAST: Final = 2
    FIRST_PAUSE_S: Final = 0.25
    """As short as a sweep: a queue of texts is worked off in so much."""
    LONGEST_PAUSE_S: Final = 4.0

    def __init__(self, born_at: float, pause_s: float = 0.0) -> None:
        self._born_at = born_at
        self._pause_s = pause_s

    @classmethod
    def after_refusal(
        cls, before: "SlowStart | None", now: float, at_least_s: float
    ) -> "SlowStart":
        """The start of an instance that is full: after a pause that doubles each time.

        Calls that were under way together and are refused together count once.

        Args:
            before: its start until now, if that is not over.
            now: clock time.
            at_least_s: what the instance itself asks for.
        """
        if before is not None and now < before._born_at:
            return cls(max(before._born_at, now + at_least_s), before._pause_s)
        doubled = 2 * before._pause_s if before is not None else 0.0
        pause_s = min(cls.LONGEST_PAUSE_S, max(cls.FIRST_PAUSE_S, doubled))
        return cls(now + max(pause_s, at_least_s), pause_s)

    def allowed(self, limit: int, now: float) -> int:
        """How many of `limit` requests it may have in flight now."""
        age_s = now - self._born_at
        if age_s < 0:
            return 0
        if age_s >= self.RAMP_S:
            return limit
        return min(limit, max(self.AT_LEAST, int(limit * age_s / self.RAMP_S)))
