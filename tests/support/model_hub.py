"""A model registry on the loopback interface that speaks the Hugging Face hub's protocol.

`/api/models/OWNER/NAME` and `.../revision/REVISION` list a model's files;
`/OWNER/NAME/resolve/REVISION/PATH` serves them with ETag and Range, large ones (LFS) by a redirect
as the hub does. Faults are set by the test.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

_CHUNK_BYTES: Final = 16 * 1024
_LIMIT_S: Final = 30.0


@dataclass
class HubModel:
    """A model that the registry serves."""

    files: dict[str, bytes]
    commit: str = "c" * 40
    revisions: tuple[str, ...] = ("main",)
    token: str = ""
    """Asked for, when it is set: the model is private."""
    is_gated: bool = False
    """Everybody may see the list of its files; the files are for who has accepted the terms."""
    accepted: str = ""
    """The token of an account that has accepted them."""
    lfs: tuple[str, ...] = (".safetensors", ".bin")


@dataclass
class Faults:
    """What goes wrong, and what is held back."""

    replaced: dict[str, bytes] = field(default_factory=dict)
    """Content sent instead of the right one, by path."""
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """By path: after how many bytes of the answer the connection is cut; one item an answer."""
    hold_after: dict[str, int] = field(default_factory=dict)
    """By path: after how many bytes an answer waits until `released`."""
    hold_limit_s: float = _LIMIT_S
    released: threading.Event = field(default_factory=threading.Event)
    refuse_ranges: bool = False
    """Answer 200 with everything, whatever range is asked for."""
    listing: bytes = b""
    """Sent in place of each list of files, when it is set."""
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests instead of the right ones."""


class ModelHub(ThreadingHTTPServer):
    """The registry."""

    daemon_threads = True

    def __init__(self, models: Mapping[str, HubModel], address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.models = dict(models)
        self.faults = Faults()
        self.asked: list[tuple[str, str, str]] = []
        """Path, range and authorization of each request."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges_of(self, path: str) -> list[str]:
        """The ranges in which the bytes of a file have been asked for; empty: all of it."""
        return [
            r for asked, r, _ in self.asked if asked.endswith(path) and "/resolve/" not in asked
        ]


@contextmanager
def model_hub(models: Mapping[str, HubModel]) -> Iterator[ModelHub]:
    """Serve these models, by OWNER/NAME."""
    with ModelHub(models, ("127.0.0.1", 0)) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.faults.released.set()
            hub.shutdown()
            thread.join(_LIMIT_S)


def blob_id(content: bytes) -> str:
    """Git's id of a file with that content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    @property
    def hub(self) -> ModelHub:
        return cast("ModelHub", self.server)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.asked.append(
            (path, self.headers.get("range", ""), self.headers.get("authorization", ""))
        )
        if self.hub.faults.statuses:
            self._refuse(self.hub.faults.statuses.pop(0))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(found[1], found[2] or "main", "blobs" in parse_qs(url.query))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._send_file(found[2], self.hub.models[found[1]].files[found[2]])
        else:
            self._refuse(404)

    def _open(self, name: str) -> HubModel | None:
        """The model, if it may be seen; else the refusal has been sent."""
        model = self.hub.models.get(name)
        has_token = "authorization" in self.headers
        if model is None:
            # As the hub does: whether there is a private model of that name, it does not tell.
            self._refuse(404 if has_token else 401, "RepoNotFound")
            return None
        if model.token and self.headers.get("authorization") != f"Bearer {model.token}":
            self._refuse(401, "RepoNotFound")
            return None
        return model

    def _list(self, name: str, revision: str, with_blobs: bool) -> None:
        model = self._open(name)
        if model is None:
            return
        if revision not in (*model.revisions, model.commit):
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [
            {"rfilename": path, **(_describe(model, path, content) if with_blobs else {})}
            for path, content in model.files.items()
        ]
        described = {"id": name, "sha": model.commit, "siblings": siblings}
        content = self.hub.faults.listing or json.dumps(described).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        model = self._open(name)
        if model is None:
            return
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if model.is_gated and (not token or token != model.accepted):
            self._refuse(403 if token else 401, "GatedRepo")
            return
        if revision not in (*model.revisions, model.commit):
            self._refuse(404, "RevisionNotFound")
            return
        if path not in model.files:
            self._refuse(404, "EntryNotFound")
            return
        content = model.files[path]
        self.send_response(302)
        self.send_header("x-repo-commit", model.commit)
        self.send_header("x-linked-etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("x-linked-size", str(len(content)))
        self.send_header("location", f"/cdn/{name}/{path}")
        self.send_header("content-length", "0")
        self.end_headers()

    def _send_file(self, path: str, content: bytes) -> None:
        faults = self.hub.faults
        content = faults.replaced.get(path, content)
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if asked and not faults.refuse_ranges:
            begin = int(asked[1])
            self.send_response(206)
            self.send_header("content-range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[begin:]
        self.send_header("etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = faults.cut_after.get(path)
        if cuts:
            self._send(path, body[: cuts.pop(0)])
            self.close_connection = True
        else:
            self._send(path, body)

    def _send(self, path: str, body: bytes) -> None:
        hold = self.hub.faults.hold_after.get(path)
        first = body if hold is None else body[:hold]
        for start in range(0, len(first), _CHUNK_BYTES):
            self.wfile.write(first[start : start + _CHUNK_BYTES])
        self.wfile.flush()
        if hold is not None:
            self.hub.faults.released.wait(self.hub.faults.hold_limit_s)
            try:
                self.wfile.write(body[hold:])
            except OSError:
                self.close_connection = True  # who asked is gone

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
        self.send_header("content-length", "0")
        self.end_headers()


def _describe(model: HubModel, path: str, content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"size": len(content), "blobId": blob_id(content)}
    if path.endswith(model.lfs):
        digest = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return told
