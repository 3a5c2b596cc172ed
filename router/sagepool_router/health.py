"""Whether this router may be sent requests, and why not."""

from collections.abc import Callable
from dataclasses import dataclass

from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import SourceStatus


@dataclass(frozen=True, slots=True)
class Readiness:
    """What /ready tells."""

    reasons: tuple[str, ...]
    """Why it is not ready; empty when it is."""
    source: SourceStatus
    table_version: int
    routable: int
    """Instances that requests can be sent to."""
    instances: int

    @property
    def is_ready(self) -> bool:
        """Whether requests may be sent here."""
        return not self.reasons


class Health:
    """Judges the process.

    A router without one ready instance is ready all the same: its answers say why no engine
    answers, which is more than a refused connection says. The same goes for an API server that
    is away: the last table is better than none.

    Args:
        publisher: where tables come from.
        source_status: how their source is doing.
    """

    def __init__(
        self, publisher: TablePublisher, source_status: Callable[[], SourceStatus]
    ) -> None:
        self._publisher = publisher
        self._source_status = source_status
        self._is_stopping = False

    def stop(self) -> None:
        """The process is about to end: it is not ready any more."""
        self._is_stopping = True

    def judge(self) -> Readiness:
        """The readiness now."""
        table = self._publisher.table
        source = self._source_status()
        reasons = []
        if self._is_stopping:
            reasons.append("the router is shutting down")
        if not self._publisher.has_table:
            reasons.append(f"no table was loaded yet from {source.kind} {source.target}")
            reasons.extend([source.error] if source.error else source.problems)
        return Readiness(
            reasons=tuple(reasons),
            source=source,
            table_version=table.version,
            routable=sum(view.routable for view in table.instances),
            instances=len(table.instances),
        )
