"""A storage on the loopback interface that speaks the S3 protocol: moto's server, real bytes.

In front of it stands a proxy of ours for what storages do on bad days: a connection that breaks, an
answer that says to come back later.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import urlsplit

import botocore.session
import httpx
from botocore.config import Config
from moto.server import ThreadedMotoServer

KEY_ID: Final = "key"
SECRET_KEY: Final = "secret"
_LIMIT_S: Final = 20.0
_HOP: Final = frozenset({"connection", "transfer-encoding", "date", "server", "host"})


class S3Server(ThreadingHTTPServer):
    """The storage."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.statuses: list[int] = []
        """Answers to the next requests instead of the right ones."""
        self.cut_after: list[int] = []
        """After how many bytes the next weights' connections are cut; one item an answer."""
        self.replaced: dict[str, bytes] = {}
        """Content sent instead of the right one, by the end of the path."""
        self.asked: list[tuple[str, str, str]] = []
        """Method, path and range of each request."""
        self.client: Any = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=upstream,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    def put(self, bucket: str, files: dict[str, bytes], **fields: Any) -> None:
        """Store objects by key."""
        for key, content in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content, **fields)

    def put_in_parts(self, bucket: str, key: str, parts: list[bytes]) -> None:
        """Store one as programs do with large files."""
        place = {"Bucket": bucket, "Key": key}
        upload = self.client.create_multipart_upload(**place)["UploadId"]
        done = []
        for number, content in enumerate(parts, 1):
            made = self.client.upload_part(
                **place, UploadId=upload, PartNumber=number, Body=content
            )
            done.append({"PartNumber": number, "ETag": made["ETag"]})
        self.client.complete_multipart_upload(
            **place, UploadId=upload, MultipartUpload={"Parts": done}
        )

    def ranges_of(self, end: str) -> list[str]:
        """Which ranges of a file have been asked for."""
        return [
            asked for method, path, asked in self.asked if method == "GET" and path.endswith(end)
        ]


class _Handler(BaseHTTPRequestHandler):
    timeout = _LIMIT_S

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def _pass_on(self) -> None:
        server = cast("S3Server", self.server)
        path = urlsplit(self.path).path
        server.asked.append((self.command, path, self.headers.get("range", "")))
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("content-length", "0")
            self.end_headers()
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        answer = httpx.request(
            self.command, server.upstream + self.path, headers=headers, timeout=_LIMIT_S
        )
        body = next((b for end, b in server.replaced.items() if path.endswith(end)), answer.content)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if path.endswith(".safetensors") and server.cut_after:
            body = body[: server.cut_after.pop(0)]
        self.wfile.write(body)


@contextmanager
def s3_server(*buckets: str) -> Iterator[S3Server]:
    """Serve these empty buckets."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset", timeout=_LIMIT_S).raise_for_status()
    server = S3Server(f"http://{host}:{port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        for name in buckets:
            server.client.create_bucket(Bucket=name)
        yield server
    finally:
        server.shutdown()
        thread.join(_LIMIT_S)
        server.server_close()
        server.client.close()
        moto.stop()
