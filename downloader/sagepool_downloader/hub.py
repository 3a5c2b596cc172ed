"""The Hugging Face hub: what a model consists of, and its bytes.

`huggingface_hub` lists the files. The bytes are fetched here: since its version 2 the library
writes each attempt to a file of its own, so that nothing is left of a download that was killed.
"""

import logging
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final, TypeVar
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling

from sagepool_downloader.errors import (
    ChecksumMismatch,
    DownloadError,
    HubUnreachable,
    Interrupted,
    ModelNotFound,
    ModelUnusable,
    TokenMissing,
    TokenRefused,
)
from sagepool_downloader.model import Listing, RemoteFile
from sagepool_downloader.part import Part
from sagepool_downloader.patience import Patience, try_patiently
from sagepool_downloader.progress import Progress

_logger: Final = logging.getLogger(__name__)
SCHEME: Final = "hf://"
T = TypeVar("T")


class Hub:
    """A model on the hub."""

    def __init__(
        self,
        address: str,
        uri: str,
        revision: str,
        token: str,
        patience: Patience,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the hub's address, the model (`hf://OWNER/NAME`), and the token (empty: none)."""
        self._address = address.rstrip("/")
        self._name = uri.removeprefix(SCHEME)
        self._revision = revision
        self._token = token
        self._patience = patience
        self._sleep = sleep
        self._client = httpx2.Client(
            headers={
                "accept-encoding": "identity",
                **({"authorization": f"Bearer {token}"} if token else {}),
            },
            # Large files live on another host; httpx2 does not take the token there.
            follow_redirects=True,
            timeout=httpx2.Timeout(patience.silence_s, connect=patience.connect_s),
        )

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def list_files(self) -> Listing:
        """All files of the model at the commit that the revision names now.

        Raises:
            DownloadError: it cannot be listed.
        """
        return self._patiently(self._list, grown=lambda: 0)

    def fetch(
        self,
        listing: Listing,
        file: RemoteFile,
        part: Part,
        progress: Progress,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Make the part the whole file, going on where an earlier attempt has ended.

        Raises:
            DownloadError: it cannot be fetched, or is not what the listing says; then nothing of
                it is kept.
            OSError: the part cannot be written.
        """
        progress.keep(part.size_bytes)
        if not part.is_whole:
            self._patiently(
                lambda: self._fetch_rest(listing, file, part, progress, is_stopped),
                grown=lambda: part.size_bytes,
            )
        if not part.is_right:
            progress.keep(-part.size_bytes)
            part.begin_anew()
            raise ChecksumMismatch(
                f"{file.path} of {self._name} at {listing.commit} is not what the hub says it is "
                f"({file.digest_kind} {file.digest}): it is fetched anew; if that does not help, "
                "something on the way changes it (a proxy, a mirror), or the volume is broken"
            )

    def _list(self) -> Listing:
        # huggingface_hub reads no variable of its own for the address once it is given one.
        api = HfApi(endpoint=self._address, token=self._token or False)
        try:
            info = api.model_info(
                self._name,
                revision=self._revision,
                files_metadata=True,
                timeout=self._patience.silence_s,
            )
        except HFValidationError as error:
            raise ModelNotFound(f"{error}: check model.uri") from error
        except (ValueError, KeyError) as error:
            raise ModelUnusable(
                f"what {self._address} answers is no list of files: check that it is a hub, and "
                "that no proxy answers in its place"
            ) from error
        files = tuple(_read_sibling(sibling) for sibling in info.siblings or ())
        if info.sha is None or not files:
            raise ModelNotFound(f"{self._name} at {self._revision} has no files: check model.uri")
        return Listing(info.sha, files)

    def _fetch_rest(
        self,
        listing: Listing,
        file: RemoteFile,
        part: Part,
        progress: Progress,
        is_stopped: Callable[[], bool],
    ) -> None:
        url = f"{self._address}/{self._name}/resolve/{listing.commit}/{quote(file.path)}"
        headers = {"range": f"bytes={part.size_bytes}-"} if part.size_bytes else {}

        def note(count: int) -> None:
            progress.add(count)
            if is_stopped():
                raise Interrupted("another file of the model has failed")

        with self._client.stream("GET", url, headers=headers) as answer:
            answer.raise_for_status()
            if answer.status_code != httpx2.codes.PARTIAL_CONTENT and part.size_bytes:
                progress.keep(-part.size_bytes)
                part.begin_anew()
            # As they come: chunks of a size of ours would be lost where the connection breaks.
            part.extend(answer.iter_raw(), note)

    def _patiently(self, attempt: Callable[[], T], grown: Callable[[], int]) -> T:
        return try_patiently(
            attempt, grown, httpx2.HTTPError, self._explain, self._patience, self._sleep
        )

    def _explain(self, error: httpx2.HTTPError) -> DownloadError:
        what = f"{self._name} at {self._revision}"
        if isinstance(error, RevisionNotFoundError):
            return ModelNotFound(f"the hub has no {what}: check model.revision")
        answer = getattr(error, "response", None)
        if answer is None:
            said = str(error) or type(error).__name__
            return HubUnreachable(
                f"{self._address} cannot be reached ({said}): check that pods of this namespace "
                "may connect to it (DNS, NetworkPolicy, proxy), or name another hub"
            )
        if answer.status_code in (401, 403):
            return self._explain_refusal(answer.status_code)
        if answer.status_code == 404:
            return ModelNotFound(f"the hub has no {what}: check model.uri and model.revision")
        return HubUnreachable(
            f"{self._address} answers {answer.status_code}: it is asked again; if it stays so, "
            "see the hub's status page"
        )

    def _explain_refusal(self, status: int) -> DownloadError:
        if self._token:
            return TokenRefused(
                f"the hub answers {status}: the token of model.tokenSecret does not open "
                f"{self._name}: check the name, accept the model's terms on the hub with the "
                "token's account, or put a valid token into the Secret"
            )
        return TokenMissing(
            f"the hub answers {status}: it does not show {self._name} to everybody: check "
            "model.uri, or name a Secret with an access token in model.tokenSecret"
        )


def _read_sibling(sibling: RepoSibling) -> RemoteFile:
    path = PurePosixPath(sibling.rfilename)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ModelUnusable(f"the hub lists a file outside of the model's folder: {path}")
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256, "sha256")
    if sibling.size is None or sibling.blob_id is None:
        raise ModelUnusable(
            f"the hub tells neither size nor digest of {sibling.rfilename}: it is no hub that "
            "models can be cached from; take another one"
        )
    return RemoteFile(sibling.rfilename, sibling.size, sibling.blob_id, "git-sha1")
