"""A folder of a bucket that speaks the S3 protocol: what lies in it, and its bytes.

`botocore` signs, finds the region's address and knows the errors; trying again and going on with
what is there are ours, as for the hub.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sagepool_downloader.errors import (
    AccessDenied,
    DownloadError,
    ModelNotFound,
    ModelUnusable,
    StorageUnreachable,
)
from sagepool_downloader.model import Listing, RemoteFile
from sagepool_downloader.origin import Intake
from sagepool_downloader.patience import Patience

SCHEME: Final = "s3://"
_CHUNK_BYTES: Final = 2**16
_DEFAULT_REGION: Final = "us-east-1"
_MD5: Final = 32
"""Hexadecimal digits."""
_DENIED: Final = frozenset({"401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken"})
_REFUSED: Final = frozenset({"InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})
_CHANGED: Final = frozenset({"412", "PreconditionFailed"})


@dataclass(frozen=True, slots=True)
class Access:
    """Where the bucket is and what opens it."""

    key_id: str = ""
    """Empty: it is asked without a signature, as a public bucket is."""
    secret_key: str = ""
    session_token: str = ""
    region: str = ""
    endpoint: str = ""
    """Empty: that of AWS in the region."""


def read_access(environ: Mapping[str, str]) -> Access:
    """What the variables say that AWS's own programs read."""
    # A Secret that was made from a file often ends with a line break.
    said = {name: value.strip() for name, value in environ.items() if name.startswith("AWS_")}
    return Access(
        said.get("AWS_ACCESS_KEY_ID", ""),
        said.get("AWS_SECRET_ACCESS_KEY", ""),
        said.get("AWS_SESSION_TOKEN", ""),
        said.get("AWS_REGION", ""),
        said.get("AWS_ENDPOINT_URL", ""),
    )


class Bucket:
    """A model in a folder of a bucket."""

    def __init__(self, uri: str, access: Access, patience: Patience) -> None:
        """Take the folder (`s3://BUCKET/FOLDER`; without FOLDER: all of it)."""
        self._uri = uri
        self._bucket, _, folder = uri.removeprefix(SCHEME).partition("/")
        self._prefix = f"{folder}/" if folder else ""
        self._access = access
        self.patience: Final = patience
        self._client = _connect(access, patience)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def list_files(self) -> Listing:
        """All files of the folder. The commit is a digest of what the storage says of them: another
        one as soon as one of them is another. Tries once.

        Raises:
            DownloadError: it cannot be listed.
        """
        with self._explained():
            files = self._list()
        said = "\n".join(f"{file.path} {file.size_bytes} {file.digest}" for file in files)
        return Listing(hashlib.sha256(said.encode()).hexdigest(), files)

    def send(self, listing: Listing, file: RemoteFile, intake: Intake) -> None:
        """Bring what is still missing of the file. Tries once.

        Raises:
            DownloadError: it does not come; what has come is kept.
            OSError: it cannot be written.
        """
        with self._explained():
            answer: dict[str, Any] = self._client.get_object(
                Bucket=self._bucket,
                Key=self._prefix + file.path,
                IfMatch=f'"{file.digest}"',
                **({"Range": f"bytes={intake.size_bytes}-"} if intake.size_bytes else {}),
            )
            chunks: Iterable[bytes] = answer["Body"].iter_chunks(_CHUNK_BYTES)
            with answer["Body"]:
                intake.extend(chunks)

    def _list(self) -> tuple[RemoteFile, ...]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        keys = sorted(str(o["Key"]) for page in pages for o in page.get("Contents", ()))
        # Some programs write an empty object in the place of a folder.
        files = tuple(self._look_at(key) for key in keys if not key.endswith("/"))
        if not files:
            raise ModelNotFound(f"{self._uri} has no files: check the model's uri")
        return files

    def _look_at(self, key: str) -> RemoteFile:
        path = PurePosixPath(key.removeprefix(self._prefix))
        if path.is_absolute() or ".." in path.parts:
            raise ModelUnusable(f"the bucket has a file outside of the model's folder: {key}")
        head: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key)
        size_bytes, etag = int(head["ContentLength"]), str(head["ETag"]).strip('"')
        digest, _, count = etag.partition("-")
        # Of an object that is encrypted with a key of its own the ETag is no MD5.
        is_md5 = len(digest) == _MD5 and head.get("ServerSideEncryption") in (None, "AES256")
        if is_md5 and not count:
            return RemoteFile(str(path), size_bytes, etag, "md5")
        if is_md5:
            first: dict[str, Any] = self._client.head_object(
                Bucket=self._bucket, Key=key, PartNumber=1
            )
            part_bytes = int(first["ContentLength"])
            # Nothing says that all parts but the last have the size of the first.
            if part_bytes and -(-size_bytes // part_bytes) == int(count):
                return RemoteFile(str(path), size_bytes, etag, "md5", part_bytes)
        return RemoteFile(str(path), size_bytes, etag, "etag")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._explain(str(error.response["Error"]["Code"])) from error
        except BotoCoreError as error:  # there was no answer
            raise self._explain_silence(error) from error

    def _explain_silence(self, error: BotoCoreError) -> DownloadError:
        return StorageUnreachable(
            f"{self._place} cannot be reached ({error}): check AWS_ENDPOINT_URL and AWS_REGION of "
            "the model's credentialsSecret, and that pods of this namespace may connect to it "
            "(DNS, NetworkPolicy, proxy)"
        )

    @property
    def _place(self) -> str:
        return self._access.endpoint or "the storage of AWS"

    def _explain(self, code: str) -> DownloadError:
        if code == "NoSuchBucket":
            return ModelNotFound(
                f"{self._place} has no bucket {self._bucket}: check the model's uri, and "
                "AWS_ENDPOINT_URL and AWS_REGION of the model's credentialsSecret"
            )
        if code in _DENIED | _REFUSED:
            return AccessDenied(self._explain_refusal(code))
        if code in _CHANGED:
            return ModelUnusable(
                f"a file of {self._uri} has changed while it was fetched: the folder is fetched "
                "anew; put another version of a model into another folder"
            )
        return StorageUnreachable(
            f"{self._place} answers {code}: it is asked again; if it stays so, check "
            "AWS_ENDPOINT_URL and AWS_REGION of the model's credentialsSecret"
        )

    def _explain_refusal(self, code: str) -> str:
        if not self._access.key_id:
            return (
                f"{self._uri}: {code}: it is not open to everybody: name a Secret with "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the model's credentialsSecret"
            )
        if code in _REFUSED:
            return (
                f"{self._uri}: {code}: correct the keys in the Secret of the model's "
                "credentialsSecret"
            )
        return (
            f"{self._uri}: {code}: allow the key of the model's credentialsSecret s3:ListBucket on "
            "the bucket and s3:GetObject on the folder, or check the model's uri"
        )


def _connect(access: Access, patience: Patience) -> Any:  # botocore makes clients while it runs
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.silence_s,
        retries={"total_max_attempts": 1},
        # It checks whole answers only, at their end; ours goes over what was resumed, too.
        response_checksum_validation="when_required",
        # Storages of others have no host for each bucket.
        s3={"addressing_style": "path" if access.endpoint else "auto"},
        **({} if access.key_id else {"signature_version": UNSIGNED}),
    )
    return botocore.session.Session().create_client(
        "s3",
        region_name=access.region or _DEFAULT_REGION,
        endpoint_url=access.endpoint or None,
        aws_access_key_id=access.key_id or None,
        aws_secret_access_key=access.secret_key or None,
        aws_session_token=access.session_token or None,
        config=config,
    )
