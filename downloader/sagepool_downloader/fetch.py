"""Fetches a model into the cache: lists, fetches and checks file by file, publishes."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from sagepool_downloader.errors import DiskFull, Interrupted, StillMissing
from sagepool_downloader.folder import ModelFolder
from sagepool_downloader.model import Listing, RemoteFile, choose_files
from sagepool_downloader.origin import Origin, fetch_file, list_model
from sagepool_downloader.progress import Progress

_logger: Final = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
"""Between two looks whether the model is there, or free to be fetched."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How another process that fetches the same model is waited for."""

    limit_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def fetch_model(
    source: str,
    origin: Origin,
    folder: ModelFolder,
    progress: Progress,
    wait_for_other: Wait,
    workers: int = 4,
) -> None:
    """Have the model in its folder, whole, and kept. Returns at once when it is.

    Raises:
        DownloadError: it cannot be fetched; what is there of it is kept for the next attempt.
        OSError: the volume refuses something.
    """
    until = wait_for_other.clock() + wait_for_other.limit_s
    while not folder.is_kept:
        with folder.hold() as is_ours:
            if is_ours and not folder.is_whole:
                _fetch(source, origin, folder, progress, workers)
            elif is_ours:
                folder.keep()
        if not is_ours:
            _logger.info("another process fetches %s: waiting for it", source)
            _pause(until, wait_for_other, f"another process has been fetching {source}")
    progress.enter("Done")


def wait_for_models(folders: Sequence[ModelFolder], waiting: Wait) -> None:
    """Return when all models are there, and kept.

    Raises:
        StillMissing: one is not, after the limit, which is that of all together.
    """
    until = waiting.clock() + waiting.limit_s
    while missing := next((folder for folder in folders if not folder.is_kept), None):
        _pause(until, waiting, f"{missing.path} has not been there")


def _pause(until: float, waiting: Wait, what: str) -> None:
    if waiting.clock() >= until:
        raise StillMissing(
            f"{what} for {waiting.limit_s:.0f} s: see the pool's condition ModelsCached; on a "
            "hostPath, see that every node has the same folder"
        )
    waiting.sleep(_LOOK_S)


def _fetch(
    source: str, origin: Origin, folder: ModelFolder, progress: Progress, workers: int
) -> None:
    progress.enter("Listing")
    found = list_model(origin)
    listing = Listing(found.commit, choose_files(found.files))
    progress.expect(listing.size_bytes)
    folder.begin(listing.commit)
    missing = [file for file in listing.files if not folder.is_fetched(file)]
    progress.keep(listing.size_bytes - sum(file.size_bytes for file in missing))
    parts = {file: folder.open_part(file) for file in missing}
    _see_that_it_fits(folder, sum(f.size_bytes - parts[f].size_bytes for f in missing))
    progress.enter("Downloading")
    _logger.info("%s is commit %s: %d bytes", source, listing.commit, listing.size_bytes)
    stopped = threading.Event()

    def fetch(file: RemoteFile) -> None:
        fetch_file(origin, source, listing, file, parts[file], progress, stopped.is_set)
        folder.accept(file, parts[file])

    with ThreadPoolExecutor(workers) as pool:
        # The largest first: the last one to end would else be alone.
        order = sorted(missing, key=lambda file: -file.size_bytes)
        futures = [pool.submit(fetch, file) for file in order]
        wait(futures, return_when=FIRST_EXCEPTION)
        stopped.set()
        pool.shutdown(cancel_futures=True)
    failed = [e for f in futures if not f.cancelled() and (e := f.exception()) is not None]
    # What has been interrupted is no cause.
    for error in sorted(failed, key=lambda e: isinstance(e, Interrupted)):
        raise error
    progress.enter("Publishing")
    folder.publish(source, listing)


def _see_that_it_fits(folder: ModelFolder, needed_bytes: int) -> None:
    free = folder.free_bytes()
    if needed_bytes > free:
        raise DiskFull(
            f"{needed_bytes / 2**30:.1f} GiB are still to be fetched and the volume has "
            f"{free / 2**30:.1f} GiB left: enlarge it, or remove models from it"
        )
