"""Shares of a backlog by flow: start-time fair queueing.

Every flow (an API key, a session) has a virtual time up to which it has been served; work of a
flow is due when the queue's own virtual time gets there. A flow that sends a thousand requests at
once is due once per round, and so is one that sends a single one. Whoever was idle starts at the
present and has saved nothing up.

Sources: Goyal, Vin, Cheng: Start-time Fair Queuing (SIGCOMM 1996); the corrections by what an
answer really cost: Sheng et al.: Fairness in Serving Large Language Models (OSDI 2024). The
virtual time advances as in weighted fair queueing, by work done over the weights that wait: with
flows of one request each the start tags alone would stand still, and nobody would age.
"""

from typing import Final

_MAX_FLOWS: Final = 8192
"""Flows remembered; those that are not ahead of the present need no memory."""
_SAMPLE_S: Final = 0.5
_NEWEST: Final = 0.3
_FIRST_SPEED: Final = 1000.0
"""Until measured: virtual tokens per second."""


class FairShare:
    """The virtual time of the queues for one set of instances."""

    __slots__ = (
        "_backlog",
        "_flows",
        "_is_measured",
        "_marked_at",
        "_marked_virtual",
        "speed",
        "virtual",
        "weight",
    )

    def __init__(self) -> None:
        self.virtual = 0.0
        self.speed = _FIRST_SPEED
        """Virtual tokens per second while work waits: turns seconds of patience into ranks."""
        self.weight = 0.0
        """The weights of all flows that wait."""
        self._backlog: dict[str, list[float]] = {}
        """Of each flow that waits: how many requests, and its weight."""
        self._flows: dict[str, list[float]] = {}
        """Of each flow: up to where it is charged, and the start tag that it was given last."""
        self._is_measured = False
        self._marked_at = -1.0
        self._marked_virtual = 0.0

    def copy(self) -> "FairShare":
        """The same virtual time and flows, with nobody that waits."""
        copied = FairShare()
        copied.virtual, copied.speed = self.virtual, self.speed
        copied._is_measured = self._is_measured
        copied.follow(self)
        return copied

    def follow(self, other: "FairShare") -> float:
        """Take over what is known of flows in another virtual time.

        Returns:
            what has to be added to start tags that were made in the other one.
        """
        later = self.virtual - other.virtual
        for flow, (finish, start) in other._flows.items():
            account = self._flows.get(flow)
            if account is None or account[0] < finish + later:
                self._flows[flow] = [finish + later, start + later]
        return later

    @property
    def flows(self) -> int:
        """How many different flows wait."""
        return len(self._backlog)

    def of_flow(self, flow: str) -> int:
        """How many requests of a flow wait."""
        account = self._backlog.get(flow)
        return int(account[0]) if account is not None else 0

    def wait(self, flow: str, weight: float) -> None:
        """A request of a flow begins to wait."""
        account = self._backlog.get(flow)
        if account is None:
            self._backlog[flow] = [1, weight]
            self.weight += weight
        else:
            account[0] += 1

    def leave(self, flow: str) -> None:
        """One of those that wait does not any more."""
        account = self._backlog[flow]
        account[0] -= 1
        if not account[0]:
            del self._backlog[flow]
            self.weight = self.weight - account[1] if self._backlog else 0.0

    def charge(self, flow: str, weight: float, tokens: int) -> float:
        """Take work of a flow on; returns its start tag."""
        start = self.virtual
        account = self._flows.get(flow)
        if account is None:
            if len(self._flows) >= _MAX_FLOWS:
                self._forget_idle()
            self._flows[flow] = [start + tokens / weight, start]
            return start
        if account[0] > start:
            start = account[0]
        account[0] = start + tokens / weight
        account[1] = start
        return start

    def correct(self, flow: str, weight: float, tokens: int) -> None:
        """Work of a flow has cost so many tokens more (or less) than it was charged.

        Whatever it gets back, what comes next of the flow stays behind what came before.
        """
        account = self._flows.get(flow)
        if account is not None:
            finish, start = account[0] + tokens / weight, account[1]
            account[0] = finish if finish > start else start

    def refund(self, flow: str, weight: float, tokens: int) -> None:
        """Charged work was never done."""
        self.correct(flow, weight, -tokens)

    def advance(self, start_tag: float, tokens: int, weight: float) -> None:
        """Work of so much weight leaves for an engine; it is still among those that wait, or never
        was."""
        waiting = self.weight
        virtual = self.virtual + tokens / (weight if weight > waiting else waiting)
        self.virtual = start_tag if start_tag > virtual else virtual

    def measure(self, now: float) -> None:
        """Learn the speed; to be called now and then."""
        if not self._backlog:
            self._marked_at = -1.0
            return
        if self._marked_at < 0:
            self._marked_at, self._marked_virtual = now, self.virtual
            return
        elapsed = now - self._marked_at
        progress = self.virtual - self._marked_virtual
        if elapsed < _SAMPLE_S or progress <= 0:
            return  # time without progress is part of the next sample
        sample = progress / elapsed
        self._marked_at, self._marked_virtual = now, self.virtual
        newest = _NEWEST if self._is_measured else 1.0
        self._is_measured = True
        self.speed += newest * (sample - self.speed)

    def _forget_idle(self) -> None:
        """Drop the flows that are not ahead; if most are, the farthest half of the rest stays."""
        ahead = {f: a for f, a in self._flows.items() if a[0] > self.virtual}
        if len(ahead) > _MAX_FLOWS // 2:
            ahead = dict(sorted(ahead.items(), key=_finish)[-_MAX_FLOWS // 2 :])
        self._flows = ahead


def _finish(item: tuple[str, list[float]]) -> float:
    return item[1][0]
