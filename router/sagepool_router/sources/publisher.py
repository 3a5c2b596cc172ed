"""Builds tables, numbers them and hands over those that differ from the last one."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_router.table import EMPTY, RoutingTable, build_table

_logger: Final = logging.getLogger(__name__)


class TablePublisher:
    """The one place that makes tables.

    Args:
        swap: takes a new table.
        now: Unix time.
    """

    def __init__(self, swap: Callable[[RoutingTable], None], now: Callable[[], float]) -> None:
        self._swap = swap
        self._now = now
        self.table = EMPTY
        """The last table; version 0 before the first."""
        self.published_at = 0.0
        """Unix time at which the last table was handed over; 0 before the first."""

    @property
    def has_table(self) -> bool:
        """Whether a table was ever handed over."""
        return self.table.version > 0

    def publish(self, pool: InferencePool, instances: Iterable[InferenceInstance]) -> bool:
        """Hand over the table of a pool and its instances; False if nothing in it is new."""
        table = build_table(pool, instances, self.table.version + 1)
        if self.has_table and replace(table, version=self.table.version) == self.table:
            return False
        self._swap(table)
        self.table = table
        self.published_at = self._now()
        _logger.info(
            "routing table changed",
            extra={
                "pool": table.pool,
                "version": table.version,
                "instances": len(table.instances),
                "routable": sum(view.routable for view in table.instances),
            },
        )
        return True
