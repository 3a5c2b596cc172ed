"""adaptive: picks among the simple policies from what waits and how loaded the pool is.

| when | policy |
|---|---|
| something that waits has a deadline | slo_aware |
| different priorities wait | priority |
| the pool is less than half loaded and instances have different prices | cost_optimized |
| else | fifo |
"""

from typing import Final, Literal, TypeAlias

from sagepool_router.scheduling.policies.policy import Outlook

_ROOM: Final = 0.5
_CROWDED: Final = 0.6
_DWELL_S: Final = 1.0

SimpleName: TypeAlias = Literal["fifo", "priority", "slo_aware", "cost_optimized"]


class AdaptiveChoice:
    """Remembers its choice, so that it does not flutter: a choice stands for at least a second."""

    __slots__ = ("_seen", "name", "stands_until")

    def __init__(self) -> None:
        self.name: SimpleName = "fifo"
        self.stands_until = float("-inf")
        """Clock time before which it is not judged anew."""
        self._seen = (0, 0, 0, 0.0)
        """What the choice was made from."""

    def choose(self, outlook: Outlook, now: float) -> bool:
        """Judge anew; True if another policy is chosen."""
        if now < self.stands_until:
            return False
        name = self._judge(outlook)
        self._seen = (
            outlook.waiting_deadlines,
            outlook.waiting,
            outlook.waiting_priorities,
            outlook.load,
        )
        if name == self.name:
            return False
        self.name = name
        self.stands_until = now + _DWELL_S
        return True

    @property
    def reason(self) -> str:
        """Why it is this one."""
        deadlines, waiting, priorities, load = self._seen
        if self.name == "slo_aware":
            return f"{deadlines} of {waiting} that wait have deadlines"
        if self.name == "priority":
            return f"{priorities} different priorities wait"
        if self.name == "cost_optimized":
            return f"prices differ and the load is {load:.0%}"
        return "nothing asks for more"

    def _judge(self, outlook: Outlook) -> SimpleName:
        if outlook.waiting_deadlines:
            return "slo_aware"
        if outlook.waiting_priorities > 1:
            return "priority"
        limit = _CROWDED if self.name == "cost_optimized" else _ROOM
        if outlook.prices_differ and outlook.load < limit:
            return "cost_optimized"
        return "fifo"
