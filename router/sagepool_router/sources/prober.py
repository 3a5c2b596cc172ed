"""Gives the instances of a file their status: no operator writes it there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

from sagepool_crds import names
from sagepool_crds.instance import (
    InferenceInstance,
    InferenceInstanceSpec,
    InferenceInstanceStatus,
    ModelFacts,
    Phase,
)
from sagepool_crds.lora import AdapterStatus
from sagepool_crds.meta import Condition, ConditionStatus, set_condition
from sagepool_engines.http import EngineHttp
from sagepool_engines.probe import (
    ProbeResult,
    choose_depth,
    probe,
    select_endpoints,
)

_logger: Final = logging.getLogger(__name__)

READY_INTERVAL_S: Final = 5.0
"""Between two probes of an engine that is ready, at least."""
READY_PROBES_PER_S: Final = 50.0
"""Of all engines that are ready: with more than 250 the interval grows, so that probing them costs
the event loop, which serves requests, no more. A request that fails shows sooner that one is gone.
"""
UNREADY_INTERVAL_S: Final = 1.0
"""Between two probes of one that is not, or that just failed."""
FAILURES_TO_UNREADY: Final = 3
"""Failures in a row after which an engine is not ready; a refused connection counts as all."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Target:
    spec: InferenceInstanceSpec
    status: InferenceInstanceStatus = field(default_factory=InferenceInstanceStatus)
    probes: int = 0
    """Since it is followed."""
    failures: int = 0
    """In a row."""
    model: ModelFacts | None = None
    """Of the embedding that was asked for before it was ready."""
    adapters: tuple[AdapterStatus, ...] = ()
    """That its engine has: nobody loads any here."""
    was_ready: bool = False
    """It was ready once: when it is not, it has failed; before, it is loading."""
    task: asyncio.Task[NoReturn] | None = None

    @property
    def is_ready(self) -> bool:
        return self.status.phase == "Ready"


class Prober:
    """Probes every instance in a task of its own.

    Args:
        http: asks the engines.
        group: the tasks live in it.
        on_change: called when an instance's status has changed.
        now: the time for conditions.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        http: EngineHttp,
        group: asyncio.TaskGroup,
        on_change: Callable[[], None],
        *,
        now: Callable[[], datetime] = _utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._group = group
        self._on_change = on_change
        self._now = now
        self._sleep = sleep
        self._targets: dict[str, _Target] = {}

    def follow(self, instances: Iterable[InferenceInstance]) -> None:
        """Probe these from now on and no others; what is known of unchanged ones stays."""
        wanted = {i.metadata.name: i.spec for i in instances}
        for name, target in list(self._targets.items()):
            if name not in wanted or wanted[name].endpoints != target.spec.endpoints:
                if target.task is not None:
                    target.task.cancel()
                del self._targets[name]
        for name, spec in wanted.items():
            if name not in self._targets:
                target = self._targets[name] = _Target(spec)
                target.task = self._group.create_task(self._keep_probing(name, target))

    def with_status(self, instance: InferenceInstance) -> InferenceInstance:
        """The instance with the status that was found; Pending before its first probe."""
        target = self._targets.get(instance.metadata.name)
        status = target.status if target is not None else InferenceInstanceStatus()
        return instance.model_copy(update={"status": status})

    async def _keep_probing(self, name: str, target: _Target) -> NoReturn:
        while True:
            await self._probe(name, target)
            is_settled = target.is_ready and not target.failures
            await self._sleep(self._ready_interval_s() if is_settled else UNREADY_INTERVAL_S)

    def _ready_interval_s(self) -> float:
        return max(READY_INTERVAL_S, len(self._targets) / READY_PROBES_PER_S)

    async def _probe(self, name: str, target: _Target) -> None:
        failure = await self._ask(target)
        if failure is None:
            target.failures = 0
            target.was_ready = True
            self._set(name, target, "True", "EngineReady", "")
            return
        target.failures += 1
        is_final = failure.is_refused or target.failures >= FAILURES_TO_UNREADY
        if target.is_ready and not is_final:
            return
        self._set(name, target, "False", failure.verdict, failure.message)

    async def _ask(self, target: _Target) -> ProbeResult | None:
        """The first endpoint's result that is not ready; what ready ones say is kept."""
        depth = choose_depth(
            was_ready=target.is_ready, has_failed=target.failures > 0, number=target.probes
        )
        target.probes += 1
        adapters: list[str] | None = None
        for endpoint in select_endpoints(target.spec.endpoints, depth):
            # The router asks for the load of busy engines itself, and far more often.
            result = await probe(self._http, target.spec.engine, endpoint, depth, with_load=False)
            if not result.is_ready:
                return result
            if result.space is not None:
                target.model = ModelFacts(
                    **result.space.model_dump(), max_model_len=result.max_model_len
                )
            if endpoint.role == "llm" and result.adapters is not None:
                adapters = [*(adapters or ()), *result.adapters]
        if adapters is not None:
            unique = dict.fromkeys(adapters)
            target.adapters = tuple(AdapterStatus(name=n, phase="Loaded") for n in unique)
        return None

    def _set(
        self, name: str, target: _Target, status: ConditionStatus, reason: str, message: str
    ) -> None:
        conditions: tuple[Condition, ...] = tuple(target.status.conditions)
        for type_ in (names.ENGINE_READY, names.READY):
            conditions = set_condition(
                conditions,
                Condition(
                    type=type_,
                    status=status,
                    reason=reason,
                    message=message[:4096],
                    last_transition_time=self._now(),
                ),
            )
        lacking: Phase = "Failed" if target.was_ready else "Loading"
        new = InferenceInstanceStatus(
            phase="Ready" if status == "True" else lacking,
            conditions=list(conditions),
            model=target.model,
            adapters=list(target.adapters) if status == "True" else [],
            message=message,
        )
        if new == target.status:
            return
        target.status = new
        _logger.info(
            "instance probed", extra={"instance": name, "reason": reason, "detail": message}
        )
        self._on_change()
