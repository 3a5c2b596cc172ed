"""The Hugging Face hub: what a model consists of, and its bytes.

`huggingface_hub` lists the files. The bytes are fetched here: since its version 2 the library
writes each attempt to a file of its own, so that nothing is left of a download that was killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling

from sagepool_downloader.errors import (
    DownloadError,
    HubUnreachable,
    ModelNotFound,
    ModelUnusable,
    TokenMissing,
    TokenRefused,
)
from sagepool_downloader.model import Listing, RemoteFile
from sagepool_downloader.origin import Intake
from sagepool_downloader.patience import Patience

SCHEME: Final = "hf://"


class Hub:
    """A model on the hub."""

    def __init__(
        self,
        address: str,
        uri: str,
        revision: str,
        token: str,
        patience: Patience,
    ) -> None:
        """Take the hub's address, the model (`hf://OWNER/NAME`), and the token (empty: none)."""
        self._address = address.rstrip("/")
        self._name = uri.removeprefix(SCHEME)
        self._revision = revision
        self._token = token
        self.patience: Final = patience
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
        """All files of the model at the commit that the revision names now. Tries once.

        Raises:
            DownloadError: it cannot be listed.
        """
        # huggingface_hub reads no variable of its own for the address once it is given one.
        api = HfApi(endpoint=self._address, token=self._token or False)
        try:
            with self._explained():
                info = api.model_info(
                    self._name,
                    revision=self._revision,
                    files_metadata=True,
                    timeout=self.patience.silence_s,
                )
        except HFValidationError as error:
            raise ModelNotFound(f"{error}: check the model's uri") from error
        except (ValueError, KeyError) as error:
            raise ModelUnusable(
                f"what {self._address} answers is no list of files: check that it is a hub, and "
                "that no proxy answers in its place"
            ) from error
        files = tuple(_read_sibling(sibling) for sibling in info.siblings or ())
        if info.sha is None or not files:
            raise ModelNotFound(
                f"{self._name} at {self._revision} has no files: check the model's uri"
            )
        return Listing(info.sha, files)

    def send(self, listing: Listing, file: RemoteFile, intake: Intake) -> None:
        """Bring what is still missing of the file. Tries once.

        Raises:
            DownloadError: it does not come; what has come is kept.
            OSError: it cannot be written.
        """
        url = f"{self._address}/{self._name}/resolve/{listing.commit}/{quote(file.path)}"
        headers = {"range": f"bytes={intake.size_bytes}-"} if intake.size_bytes else {}
        with self._explained(), self._client.stream("GET", url, headers=headers) as answer:
            answer.raise_for_status()
            if answer.status_code != httpx2.codes.PARTIAL_CONTENT and intake.size_bytes:
                intake.begin_anew()
            # As they come: chunks of a size of ours would be lost where the connection breaks.
            intake.extend(answer.iter_raw())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise self._explain(error) from error

    def _explain(self, error: httpx2.HTTPError) -> DownloadError:
        what = f"{self._name} at {self._revision}"
        if isinstance(error, RevisionNotFoundError):
            return ModelNotFound(f"the hub has no {what}: check the model's revision")
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
            return ModelNotFound(f"the hub has no {what}: check the model's uri and revision")
        return HubUnreachable(
            f"{self._address} answers {answer.status_code}: it is asked again; if it stays so, "
            "see the hub's status page"
        )

    def _explain_refusal(self, status: int) -> DownloadError:
        if self._token:
            return TokenRefused(
                f"the hub answers {status}: the token of the model's tokenSecret does not open "
                f"{self._name}: check the name, accept the model's terms on the hub with the "
                "token's account, or put a valid token into the Secret"
            )
        return TokenMissing(
            f"the hub answers {status}: it does not show {self._name} to everybody: check "
            "the model's uri, or name a Secret with an access token in the model's tokenSecret"
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
