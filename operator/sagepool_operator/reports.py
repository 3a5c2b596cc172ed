"""What probing has shown of each engine, in the resolution in which it is written. Pure.

Status is membership and coarse load, not a metrics bus: load is rounded here, once, so that small
changes write nothing and wake nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final, TypeAlias

from pydantic import Field

from sagepool_crds import names
from sagepool_crds.instance import InferenceInstanceStatus, Load, ModelFacts
from sagepool_crds.meta import find_condition
from sagepool_crds.space import EmbeddingSpace
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import ProbeResult, Verdict

_EXACT: Final = 4
_STEP: Final = 1.25
_USAGE_STEPS: Final = 20

TargetKey: TypeAlias = tuple[str, str, str, str]
"""Namespace, instance, uid and incarnation."""


@dataclass(frozen=True, slots=True)
class Report:
    """An engine as its last probes have shown it."""

    verdict: Verdict
    message: str = ""
    was_ready: bool = False
    """It has been ready since it was first probed."""
    failures: int = 0
    """Probes that failed since the last good one, while it still counts as ready."""
    max_model_len: int | None = None
    space: EmbeddingSpace | None = None
    load: Load | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can be sent requests."""
        return self.verdict == "EngineReady"

    def says_more_than(self, other: "Report | None") -> bool:
        """Whether the difference to an earlier report is one that would be written."""
        if other is None:
            return True
        return _written(self) != _written(other)


def inherit(status: InferenceInstanceStatus, since: datetime | None) -> Report | None:
    """The report that an earlier operator has left in an engine's status.

    It stands until the first probe of this one, so that a restart of the operator takes no engine
    out of routing. `since` is when the engine's process started: what was found before it says
    nothing.
    """
    ready = find_condition(status.conditions, names.ENGINE_READY)
    if ready is None or ready.status != "True":
        return None
    if since is not None and ready.last_transition_time < since:
        return None
    facts = status.model or ModelFacts()
    return Report(
        "EngineReady",
        was_ready=True,
        max_model_len=facts.max_model_len,
        space=facts.space,
        load=status.load,
    )


Reports: TypeAlias = Mapping[TargetKey, Report]


def advance(old: Report | None, result: ProbeResult, now: datetime, tolerance: int) -> Report:
    """The report after one more probe.

    A ready engine stays ready until `tolerance` probes in a row have failed: one lost packet or
    a long garbage collection must not move its requests elsewhere.
    """
    was_ready = result.is_ready or (old is not None and old.was_ready)
    if result.is_ready:
        load = round_load(result.load, now) if result.load is not None else None
        # Not every probe asks for everything: what an earlier one has shown is kept.
        space = result.space or (old.space if old is not None else None)
        length = result.max_model_len or (old.max_model_len if old is not None else None)
        return Report("EngineReady", "", True, 0, length, space, load)
    if old is not None and old.is_ready and old.failures + 1 < tolerance:
        return replace(old, failures=old.failures + 1)
    return Report(result.verdict, result.message, was_ready)


def round_load(load: EngineLoad, now: datetime) -> Load:
    """Counts exact to 4, then in steps of about a quarter; the cache's use in steps of 0.05."""
    return Load(
        running=_round_count(load.running),
        waiting=_round_count(load.waiting),
        kv_cache_usage=round(round(load.kv_cache_usage * _USAGE_STEPS) / _USAGE_STEPS, 2),
        sampled_at=now,
    )


def same_load(a: Load | None, b: Load | None) -> bool:
    """Whether the figures are the same, whenever they were taken."""
    return _figures(a) == _figures(b)


def _round_count(count: int) -> int:
    """The largest step that is not above `count`."""
    step = min(max(count, 0), _EXACT)
    while (following := max(step + 1, round(step * _STEP))) <= count:
        step = following
    return step


def _figures(load: Load | None) -> tuple[int, int, float] | None:
    return None if load is None else (load.running, load.waiting, load.kv_cache_usage)


def _written(report: Report) -> tuple[object, ...]:
    return (
        report.verdict,
        report.message,
        report.max_model_len,
        report.space,
        _figures(report.load),
    )


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """The LoRA adapters of an engine, of those that it should have."""

    loaded: frozenset[str] = frozenset()
    """Names that it answers to."""
    errors: tuple[tuple[str, str], ...] = ()
    """Of adapters that could not be loaded, or unloaded, the last time: name and why."""

    def after(self, name: str, error: str, *, is_loaded: bool) -> "AdapterReport":
        """The report after one more attempt; an empty `error`: it has succeeded."""
        errors = dict(self.errors)
        errors.pop(name, None)
        if error:
            return AdapterReport(self.loaded, (*errors.items(), (name, error)))
        loaded = self.loaded | {name} if is_loaded else self.loaded
        return AdapterReport(loaded, tuple(errors.items()))


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """A pool's cloud provider as asking it has shown it."""

    base_url: str
    error: str = ""
    """Why no request can be sent there; empty when one can."""
    failures: int = 0
    """In a row, up to now."""


def advance_provider(
    old: ProviderReport | None, base_url: str, error: str, tolerance: int
) -> ProviderReport:
    """The report after one more question, which `error` is the outcome of (empty: good).

    One that could be reached stays so until `tolerance` questions in a row have failed.
    """
    if not error:
        return ProviderReport(base_url)
    failures = old.failures + 1 if old is not None else 1
    is_forgiven = old is not None and not old.error and failures < tolerance
    return ProviderReport(base_url, "" if is_forgiven else error, failures)


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """How far a download is, as it tells it itself."""

    bytes_done: Annotated[int, Field(validation_alias="bytes", ge=0)]
    """Fetched and kept."""
    bytes_total: Annotated[int, Field(validation_alias="totalBytes", ge=0)]
    """0 while it is not known."""
    bytes_per_second: Annotated[int, Field(validation_alias="bytesPerSecond", ge=0)]
    remaining_s: Annotated[int | None, Field(validation_alias="remainingSeconds", ge=0)] = None
    """At this speed."""
