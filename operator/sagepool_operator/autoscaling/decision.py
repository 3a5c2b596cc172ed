"""How many engines a group should have now. Pure: time is a parameter.

The way of Kubernetes' HorizontalPodAutoscaler (kubernetes.io, "Horizontal Pod Autoscaling",
algorithm details): every target says how many engines it takes, the highest wins, a deviation of a
tenth changes nothing, up at once, down to the highest that was needed within a window. To zero and
back as Knative and KEDA do it: after nobody has asked for a while, and at once when somebody does.

    demand ──► a need for each target ──► the highest ──► the window ──► between min and max

Nothing here is stored anywhere. How many engines there are stands in the Deployment, how long
nobody has asked is what routers report; a window that begins anew counts what runs as needed.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final

from sagepool_crds.scaling import Scaling
from sagepool_operator.autoscaling.demand import Demand

WARM_AFTER_S: Final = 30.0
"""Routers load a new engine slowly for so long (`slow start`): what waits meanwhile is not yet a
reason for another one."""
_TOLERANCE: Final = 0.1
"""Of HorizontalPodAutoscaler: a deviation up to this changes nothing."""
_FULL: Final = 0.7
"""An engine is superfluous when the others would be no fuller than this without it (Knative's
target utilisation)."""
_UNMET_S: Final = 60.0
"""A request that was not answered by an engine asks for one for so long."""
_STEP: Final = 2.0
"""Late first tokens at most double the engines at a time: how late says little of how many."""


@dataclass(frozen=True, slots=True)
class Engines:
    """A group's engines."""

    wanted: int
    """As many as its Deployment asks for now."""
    ready: int
    """Those that answer."""
    warm: int
    """Those that have answered for `WARM_AFTER_S`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many engines there should be, and why."""

    replicas: int
    reason: str


class Window:
    """The highest need of the last while, at a cost that does not grow with its length."""

    def __init__(self) -> None:
        self._needs: deque[tuple[float, int]] = deque()
        """When, and how many; falling, so that the first is the highest."""

    def note(self, now_s: float, need: int) -> None:
        """So many engines are needed now."""
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((now_s, need))

    def highest(self, since_s: float) -> int:
        """The most that were needed since then; forgets what was before. 0: nothing is known."""
        while self._needs and self._needs[0][0] < since_s:
            self._needs.popleft()
        return self._needs[0][1] if self._needs else 0

    def begin(self, now_s: float, running: int) -> None:
        """What runs counts as needed, where nothing is known yet."""
        if not self._needs:
            self._needs.append((now_s, running))


def decide(
    scaling: Scaling, engines: Engines, demand: Demand, window: Window, now_s: float
) -> Decision:
    """The engines that a group should have.

    Args:
        scaling: what its user wants.
        engines: what it has.
        demand: what it is wanted for.
        window: of the group; what is needed now is noted in it.
        now_s: seconds, by a clock that does not go back.
    """
    if engines.wanted == 0:
        return _from_zero(scaling, engines, demand, window, now_s)
    if scaling.least == 0 and _may_go(scaling, demand):
        return Decision(0, f"nobody has asked for {scaling.idle_to_zero_s} s")
    window.begin(now_s, engines.wanted)
    need = max(_needs(scaling, engines, demand), key=lambda found: found.replicas)
    count = need.replicas
    if not demand.is_whole:
        count = max(count, engines.wanted)  # what is not known may need them
    window.note(now_s, count)
    if count < engines.wanted:
        highest = window.highest(now_s - scaling.down_after_s)
        if highest >= engines.wanted:
            return Decision(_bounded(scaling, engines.wanted), "")
        count = highest
        need = Decision(count, f"no more were needed for {scaling.down_after_s} s: {need.reason}")
    return Decision(_bounded(scaling, count), need.reason)


def _from_zero(
    scaling: Scaling, engines: Engines, demand: Demand, window: Window, now_s: float
) -> Decision:
    recent_s = min(_UNMET_S, scaling.idle_to_zero_s)
    is_unmet = demand.unmet_s is not None and demand.unmet_s < recent_s
    if demand.is_idle and not is_unmet:
        return Decision(scaling.least, "" if scaling.least == 0 else "minReplicas")
    need = max(_needs(scaling, engines, demand), key=lambda found: found.replicas)
    count = max(1, need.replicas)
    window.note(now_s, count)
    waiting = demand.queued_requests
    reason = f"{waiting} requests wait and no engine runs" if waiting else "somebody has asked"
    return Decision(_bounded(scaling, count), reason)


def _may_go(scaling: Scaling, demand: Demand) -> bool:
    return demand.is_whole and demand.is_idle and demand.idle_s >= scaling.idle_to_zero_s


def _bounded(scaling: Scaling, count: int) -> int:
    # By load the last engine stays: only idleness takes it away.
    return min(max(count, scaling.least, 1), scaling.most)


def _needs(scaling: Scaling, engines: Engines, demand: Demand) -> Iterator[Decision]:
    """What each target asks for: as many as there are, where it asks for no other number."""
    target = scaling.target
    if target is None:
        yield Decision(engines.wanted, "")
        return
    if target.in_flight is not None:
        yield _by_in_flight(target.in_flight, engines, demand)
    if target.queued_requests is not None:
        yield _by_queue("requests", demand.queued_requests, target.queued_requests, engines, demand)
    if target.queued_texts is not None:
        yield _by_queue("texts", demand.queued_texts, target.queued_texts, engines, demand)
    if target.ttft_ms is not None:
        yield _by_first_token(target.ttft_ms, engines, demand)


def _by_in_flight(target: int, engines: Engines, demand: Demand) -> Decision:
    load = demand.in_flight + demand.queued_requests
    reason = f"{load} requests in flight or waiting, {target} an engine"
    fits = target * engines.wanted
    if abs(load - fits) <= _TOLERANCE * fits and engines.wanted:
        return Decision(engines.wanted, reason)
    return Decision(ceil(load / target), reason)


def _by_queue(what: str, queued: int, target: int, engines: Engines, demand: Demand) -> Decision:
    """What waits is what full engines could not take: it asks for engines beside them."""
    more = queued // target
    if more:
        reason = f"{queued} {what} wait, {target} for one engine more"
        # Those that are coming up are among what it takes: none of them may go meanwhile.
        return Decision(max(engines.wanted, engines.warm + more), reason)
    return _fewer(engines, demand)


def _by_first_token(target_ms: int, engines: Engines, demand: Demand) -> Decision:
    if demand.ttft_s is None:
        return _fewer(engines, demand)
    ratio = demand.ttft_s * 1000 / target_ms
    if ratio <= _FULL:
        return _fewer(engines, demand)
    reason = f"first tokens within {demand.ttft_s * 1000:.0f} ms, {target_ms} wanted"
    # While engines are coming up it is not known yet whether they are enough.
    if ratio <= 1 + _TOLERANCE or engines.warm < engines.wanted:
        return Decision(engines.wanted, reason)
    return Decision(ceil(engines.wanted * min(ratio, _STEP)), reason)


def _fewer(engines: Engines, demand: Demand) -> Decision:
    """As many as would have room for what there is."""
    if not demand.capacity or not engines.ready:
        return Decision(engines.wanted, "")
    load = demand.in_flight + demand.queued_requests
    one = demand.capacity / engines.ready
    needed = ceil(load / (_FULL * one))
    return Decision(min(engines.wanted, needed), f"{load} of {demand.capacity} places taken")
