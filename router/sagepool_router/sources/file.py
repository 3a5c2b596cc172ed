"""The table from a YAML file that is watched for changes; the router probes the engines itself."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp
from sagepool_router.sources.document import Document, DocumentError, read_document
from sagepool_router.sources.prober import Prober
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import SourceStatus

_logger: Final = logging.getLogger(__name__)

_SETTLED_S: Final = 0.1
"""Between two tables that probes lead to."""

_Stamp: TypeAlias = tuple[int, int, int]
"""Inode, time of change in ns, size: one of them differs after every edit, a rename included."""


class FileSource:
    """Follows one file; an edit that breaks it keeps the last table.

    Args:
        path: the file.
        pool: which pool; needed only when the file holds several.
        publisher: takes the tables.
        http: probes the engines.
        interval_s: how often the file is looked at.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        path: Path,
        pool: PoolKey | None,
        publisher: TablePublisher,
        http: EngineHttp,
        *,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._key = pool
        self._publisher = publisher
        self._http = http
        self._interval_s = interval_s
        self._clock = clock
        self._sleep = sleep
        self._document: Document | None = None
        self._changed = asyncio.Event()
        """The prober has found something new."""
        self._error = "not read yet"
        self._since = clock()

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            prober = Prober(self._http, group, self._changed.set, sleep=self._sleep)
            group.create_task(self._publish_changes(prober))
            seen: _Stamp | None = None
            while True:
                # The stamp is taken first: an edit during the reading is seen the next time.
                stamp = _stamp(self._path)
                if stamp is None or stamp != seen:
                    seen = stamp
                    await self._load(prober)
                await self._sleep(self._interval_s)

    def status(self) -> SourceStatus:
        """How it is doing now."""
        return SourceStatus(
            kind="file",
            target=str(self._path),
            is_connected=not self._error,
            lasted_s=self._clock() - self._since,
            error=self._error,
        )

    async def _load(self, prober: Prober) -> None:
        try:
            # In a thread: a thousand instances take libyaml and pydantic a tenth of a second.
            document = await asyncio.to_thread(_read, self._path, self._key)
        except (DocumentError, OSError) as error:
            self._set_error(f"{self._path} cannot be used: {error}")
            return
        self._set_error("")
        self._document = document
        prober.follow(document.instances)
        self._publish(prober)

    def _set_error(self, error: str) -> None:
        if error == self._error:
            return
        if bool(error) != bool(self._error):
            self._since = self._clock()
        self._error = error
        if error:
            _logger.error("pool file ignored: the last table stays", extra={"error": error})
        else:
            _logger.info("pool file read", extra={"file": str(self._path)})

    async def _publish_changes(self, prober: Prober) -> NoReturn:
        """Many engines that answer together are one change: a table is made of all of them."""
        while True:
            await self._changed.wait()
            self._publish(prober)
            await self._sleep(_SETTLED_S)

    def _publish(self, prober: Prober) -> None:
        document = self._document
        self._changed.clear()
        if document is not None:
            self._publisher.publish(document.pool, map(prober.with_status, document.instances))


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path, key: PoolKey | None) -> Document:
    return read_document(path.read_bytes(), key)
