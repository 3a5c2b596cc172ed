"""Where a model comes from: what the hub and a bucket have in common, and what takes in a file."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sagepool_downloader.errors import ChecksumMismatch, Interrupted
from sagepool_downloader.model import Listing, RemoteFile
from sagepool_downloader.part import Part
from sagepool_downloader.patience import Patience, try_patiently
from sagepool_downloader.progress import Progress


class Origin(Protocol):
    """Where a model comes from. Each of its methods tries once."""

    @property
    def patience(self) -> Patience:
        """How long it is waited for, and how often it is asked."""
        ...

    def list_files(self) -> Listing:
        """All files of the model at the commit that its revision names now.

        Raises:
            DownloadError: it cannot be listed.
        """
        ...

    def send(self, listing: Listing, file: RemoteFile, intake: "Intake") -> None:
        """Bring what is still missing of the file.

        Raises:
            DownloadError: it does not come; what has come is kept.
            OSError: it cannot be written.
        """
        ...


class Intake:
    """Takes in a file: the part grows, and the progress tells of it."""

    def __init__(self, part: Part, progress: Progress, is_stopped: Callable[[], bool]) -> None:
        """Take the part, and what says that no more is wanted."""
        self._part: Final = part
        self._progress = progress
        self._is_stopped = is_stopped
        progress.keep(part.size_bytes)

    @property
    def size_bytes(self) -> int:
        """So much is there."""
        return self._part.size_bytes

    def extend(self, chunks: Iterable[bytes]) -> None:
        """Take in what comes next.

        Raises:
            Interrupted: no more is wanted.
            OSError: it cannot be written.
        """
        self._part.extend(chunks, self._note)

    def begin_anew(self) -> None:
        """Keep nothing of what is there."""
        self._progress.keep(-self._part.size_bytes)
        self._part.begin_anew()

    def _note(self, count: int) -> None:
        self._progress.add(count)
        if self._is_stopped():
            raise Interrupted("another file of the model has failed")


def list_model(origin: Origin) -> Listing:
    """All files of the model, asked for patiently.

    Raises:
        DownloadError: it cannot be listed.
    """
    return try_patiently(origin.list_files, lambda: 0, origin.patience)


def fetch_file(
    origin: Origin,
    source: str,
    listing: Listing,
    file: RemoteFile,
    part: Part,
    progress: Progress,
    is_stopped: Callable[[], bool],
) -> None:
    """Make the part the whole file, going on where an earlier attempt has ended.

    Raises:
        DownloadError: it cannot be fetched, or is not what the listing says; then nothing of it is
            kept.
        OSError: the part cannot be written.
    """
    intake = Intake(part, progress, is_stopped)
    if not part.is_whole:
        try_patiently(
            lambda: origin.send(listing, file, intake), lambda: part.size_bytes, origin.patience
        )
    if not part.is_right:
        intake.begin_anew()
        raise ChecksumMismatch(
            f"{file.path} of {source} is not what it was listed as ({file.digest_kind} "
            f"{file.digest}): it is fetched anew; if that does not help, something on the way "
            "changes it (a proxy, a mirror), or the volume is broken"
        )
