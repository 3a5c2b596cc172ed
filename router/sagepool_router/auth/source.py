"""Follows the place that API keys are read from: a mounted Secret, a directory or one file.

Nobody gets in before keys were read. Later, what cannot be read keeps the last keys; what can be
read and holds no usable key lets nobody in.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from sagepool_router.auth.entries import (
    MAX_ENTRY_BYTES,
    Entries,
    EntryError,
    read_document,
    read_entries,
)
from sagepool_router.auth.files import Stamp, read_directory, read_file, take_stamp
from sagepool_router.auth.keyring import Keyring

_logger: Final = logging.getLogger(__name__)


class KeySource:
    """Keeps `keyring` as the files say.

    Args:
        path: a directory with a file for each key, or one YAML file.
        share: the part of every limit that is this router's: one over their number.
        interval_s: how often the files are looked at.
        clock: seconds, monotonic: the one that keys are asked with.
        sleep: waits that many seconds.
        salt: random bytes of the process' own.
    """

    def __init__(
        self,
        path: Path,
        *,
        share: float = 1.0,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        salt: bytes | None = None,
    ) -> None:
        self._path = path
        self._share = share
        self._interval_s = interval_s
        self._clock = clock
        self._sleep = sleep
        self._salt = secrets.token_bytes(32) if salt is None else salt
        self._seen: Stamp = ()
        self._refused: Mapping[str, str] = {}
        self._has_keys = False
        self.keyring = Keyring((), self._salt, share=share, now=clock())
        """The keys in use: replaced as a whole."""
        self.error = ""
        """Why the files cannot be read; empty while they can."""

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        while True:
            await self.refresh()
            await self._sleep(self._interval_s)

    async def refresh(self) -> None:
        """Read the files if they have changed; to be awaited once before serving."""
        # In a thread: a volume may hang. The stamp is taken before the reading, so that an edit
        # during it is seen the next time.
        stamp = await asyncio.to_thread(take_stamp, self._path)
        if stamp and stamp == self._seen:
            return
        try:
            entries = await asyncio.to_thread(_read, self._path)
        except (EntryError, OSError) as error:
            self._seen = stamp if isinstance(error, EntryError) else ()
            self._keep_last(_words(error))
            return
        self._seen = stamp
        self._swap(entries)

    def keep_to(self, share: float) -> None:
        """The number of routers has changed: keep to another share of all limits."""
        if share != self._share:
            self._share = share
            self.keyring.keep_to(share, self._clock())

    def _keep_last(self, error: str) -> None:
        if error == self.error:
            return
        self.error = error
        what = {"path": str(self._path), "error": error}
        if self._has_keys:
            _logger.error("API keys cannot be read: the last ones stay", extra=what)
        else:
            _logger.error("API keys cannot be read: nobody gets in", extra=what)

    def _swap(self, entries: Entries) -> None:
        for name, reason in entries.refused.items():
            if self._refused.get(name) != reason:
                _logger.error("API key refused", extra={"entry": name, "reason": reason})
        self._refused = entries.refused
        self.error = ""
        self.keyring = Keyring(
            entries.accepted,
            self._salt,
            share=self._share,
            now=self._clock(),
            previous=self.keyring,
        )
        self._has_keys = bool(entries.accepted)
        what = {
            "path": str(self._path),
            "accepted": len(entries.accepted),
            "refused": len(entries.refused),
        }
        if self._has_keys:
            _logger.info("API keys read", extra=what)
        else:
            _logger.error("there is no usable API key: nobody gets in", extra=what)


def _read(path: Path) -> Entries:
    if not path.is_dir():
        return read_document(read_file(path))
    files = read_directory(path, MAX_ENTRY_BYTES)
    entries = read_entries(files.contents)
    return Entries(entries.accepted, {**entries.refused, **files.unreadable})


def _words(error: EntryError | OSError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
