"""`sagepool-downloader`: the program."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sagepool_downloader import bucket
from sagepool_downloader.bucket import Bucket, read_access
from sagepool_downloader.errors import DownloadError
from sagepool_downloader.fetch import Wait, fetch_model, wait_for_models
from sagepool_downloader.folder import ModelFolder, explain
from sagepool_downloader.hub import SCHEME, Hub
from sagepool_downloader.patience import Patience
from sagepool_downloader.progress import Progress
from sagepool_downloader.prune import prune_models
from sagepool_downloader.server import ProgressServer

_HIGHEST_PORT: Final = 65535
_MOST_MESSAGE: Final = 2048
"""The kubelet keeps 4096 bytes of a termination message."""
_DAY_S: Final = 86400.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit code 0: it is done; 1: it is not, a sentence says why; 2: wrong use."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    # Each request would be a line.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whatever is written is gone on with, so there is nothing to tidy up; and the first process
        # of a container is not ended by a signal that it does not handle.
        signal.signal(number, lambda caught, _: os._exit(128 + caught))
    try:
        with explain(options.root):
            match options.command:
                case "fetch":
                    _fetch(options)
                case "wait":
                    names = options.folder
                    folders = [ModelFolder(options.root, n, options.pool or "") for n in names]
                    wait_for_models(folders, Wait(options.wait_seconds))
                case "prune":
                    _prune(options)
    except DownloadError as error:
        _tell(options.termination_log, f"{error.reason}: {error}")
        return 1
    return 0


def _fetch(options: argparse.Namespace) -> None:
    progress = Progress(time.monotonic)
    origin, source = _origin(options)
    folder = ModelFolder(options.root, options.folder, options.pool or "")
    with ProgressServer((options.host, options.port), progress) as server:
        logging.info("serving on %s:%d", options.host, server.server_address[1])
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            fetch_model(source, origin, folder, progress, Wait(options.wait_seconds))
        finally:
            server.shutdown()
            origin.close()
    _tell(options.termination_log, f"Done: {folder.size_bytes()} bytes")


def _origin(options: argparse.Namespace) -> tuple[Hub | Bucket, str]:
    """Where the model comes from, and what it is called."""
    if options.uri.startswith(bucket.SCHEME):
        return Bucket(options.uri, read_access(os.environ), Patience()), options.uri
    # A Secret that was made from a file often ends with a line break.
    token = os.environ.get("HF_TOKEN", "").strip()
    hub = Hub(options.hub, options.uri, options.revision, token, Patience())
    return hub, f"{options.uri}@{options.revision}"


def _prune(options: argparse.Namespace) -> None:
    waiting = Wait(options.wait_seconds)
    removed = list(prune_models(options.root, options.pool, options.keep, waiting))
    if not removed:
        return
    size_bytes = sum(one.size_bytes for one in removed)
    names = ", ".join(one.name for one in removed)
    _tell(options.termination_log, f"Removed: {size_bytes} bytes of {names}")


def _tell(termination_log: Path, message: str) -> None:
    print(f"sagepool-downloader: {message}", file=sys.stderr)
    try:
        termination_log.write_text(message[:_MOST_MESSAGE])
    except OSError:
        logging.info("there is no %s to leave the message in", termination_log)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, by default of this process; wrong ones end it with a sentence and code 2."""
    parser = argparse.ArgumentParser(
        prog="sagepool-downloader",
        description="Fetches a model into a cache, waits until it is there, or removes it.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=what,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        _add_shared(command)
        return command

    fetch = add("fetch", "fetch a model; a token or keys are read from HF_TOKEN or AWS_*")
    fetch.add_argument(
        "--uri", type=_uri, required=True, help="hf://OWNER/NAME or s3://BUCKET/FOLDER"
    )
    fetch.add_argument("--revision", default="main", help="branch, tag or commit")
    fetch.add_argument("--hub", default="https://huggingface.co", help="the hub's address")
    fetch.add_argument("--host", default="0.0.0.0", help="address to serve the progress on")
    fetch.add_argument("--port", type=_port, default=9093, help="port of it; 0: any")
    fetch.add_argument(
        "--folder", type=_name, required=True, help="the model's folder in the cache, one name"
    )
    wait = add("wait", "return when models are there")
    wait.add_argument(
        "--folder",
        type=_name,
        action="append",
        required=True,
        help="a model's folder in the cache, one name; repeat it for several",
    )
    for command in (fetch, wait):
        command.add_argument(
            "--pool", type=_name, help="uid of the pool that the model is kept for"
        )
    prune = add("prune", "remove the models of a pool that neither it nor another one wants")
    prune.add_argument("--pool", type=_name, required=True, help="uid of the pool")
    prune.add_argument(
        "--keep", type=_name, action="append", default=[], help="folder that it wants; repeat it"
    )
    return parser.parse_args(arguments)


def _add_shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", type=Path, required=True, help="the cache's folder")
    command.add_argument(
        "--wait-seconds",
        type=_seconds,
        default=_DAY_S,
        help="limit of waiting for another process that fetches or removes the same model",
    )
    command.add_argument(
        "--termination-log",
        type=Path,
        default=Path("/dev/termination-log"),
        help="where the kubelet reads why the container has ended",
    )


def _name(text: str) -> str:
    if not text or text.startswith(".") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r}: write one name, without / and no dot first")
    return text


def _uri(text: str) -> str:
    if text.startswith(bucket.SCHEME) and text.removeprefix(bucket.SCHEME).strip("/"):
        return text.rstrip("/")
    if not text.startswith(SCHEME) or text.removeprefix(SCHEME).count("/") != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write hf://OWNER/NAME or s3://BUCKET/FOLDER")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 7 * _DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, above 0, to 604800")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
