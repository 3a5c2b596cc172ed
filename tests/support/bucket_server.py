"""A storage that speaks as much of the S3 protocol as fetching a folder takes, for a pod.

It needs Python's own library alone; where other packages can be had, `s3_server` is the real thing.
"""

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

_LIMIT_S: Final = 30.0


class BucketServer(ThreadingHTTPServer):
    """One bucket; whoever signs with its key may read."""

    daemon_threads = True

    def __init__(
        self, bucket: str, files: dict[str, bytes], key_id: str, address: tuple[str, int]
    ) -> None:
        super().__init__(address, _Handler)
        self.bucket = bucket
        self.files = files
        self.key_id = key_id


class _Handler(BaseHTTPRequestHandler):
    timeout = _LIMIT_S

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def _answer(self) -> None:
        server = cast("BucketServer", self.server)
        url = urlsplit(self.path)
        _, bucket, *rest = unquote(url.path).split("/", 2)
        key = "".join(rest)
        if f"Credential={server.key_id}/" not in self.headers.get("Authorization", ""):
            self._send(403, _xml("Error", "<Code>InvalidAccessKeyId</Code>"))
        elif bucket != server.bucket:
            self._send(404, _xml("Error", "<Code>NoSuchBucket</Code>"))
        elif not key:
            self._send(200, self._list(parse_qs(url.query).get("prefix", [""])[0]))
        elif key not in server.files:
            self._send(404, _xml("Error", "<Code>NoSuchKey</Code>"))
        else:
            self._send_file(server.files[key])

    def _list(self, prefix: str) -> bytes:
        files = cast("BucketServer", self.server).files
        found = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(content)}</Size></Contents>"
            for key, content in sorted(files.items())
            if key.startswith(prefix)
        )
        return _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{found}")

    def _send_file(self, content: bytes) -> None:
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        more = {"Content-Range": span} if asked else {}
        self._send(206 if asked else 200, content[start:], ETag=etag, **more)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _xml(name: str, inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inside}</{name}>'.encode()
