"""When a process that ended is started again. Pure."""

from dataclasses import dataclass

_FIRST_S = 1.0
_LONGEST_S = 30.0
_FORGIVEN_S = 60.0


@dataclass(slots=True)
class Backoff:
    """Doubles the wait with every end in a row, from one second to thirty.

    A process that ran for a minute starts anew with one second.
    """

    ends: int = 0
    """In a row."""
    ends_ever: int = 0
    """Of a process that runs for long and never answers, too."""

    def next_delay_s(self, ran_s: float) -> float:
        """Seconds to wait after an end.

        Args:
            ran_s: how long the process ran.
        """
        self.ends_ever += 1
        self.ends = 1 if ran_s >= _FORGIVEN_S else self.ends + 1
        # An end every thirty seconds for a month is too large a power.
        return min(_LONGEST_S, _FIRST_S * 2.0 ** min(self.ends - 1, 16))
