"""`sagepool-sidecar`: the program."""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from sagepool_sidecar.drain import DrainLimits
from sagepool_sidecar.engine import Engine
from sagepool_sidecar.page import MetricNames
from sagepool_sidecar.server import Sidecar

_HIGHEST_PORT: Final = 65535
_ENGINE_PORT: Final = 8000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit code 0: stopped; 1: cannot listen; 2: wrong use."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    names = MetricNames(
        running=frozenset(options.running),
        waiting=frozenset(options.waiting),
        usage=frozenset(options.usage),
        progress=frozenset(options.progress),
    )
    engines = [
        Engine(options.engine_host, port, options.metrics_path, names, time.monotonic)
        for port in options.engine_port or [_ENGINE_PORT]
    ]
    limits = DrainLimits(total_s=options.drain_seconds)
    try:
        sidecar = Sidecar((options.host, options.port), engines, limits, time.monotonic)
    except OSError as error:
        print(
            f"sagepool-sidecar: cannot listen on {options.host}:{options.port}: "
            f"{error.strerror or error}; choose another --port",
            file=sys.stderr,
        )
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sidecar.stop())
    with sidecar:
        logging.info("serving on %s:%d", options.host, sidecar.server_address[1])
        sidecar.serve_forever(poll_interval=0.1)
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, by default of this process; wrong ones end it with a sentence and code 2."""
    parser = argparse.ArgumentParser(
        prog="sagepool-sidecar",
        description="Says the load of the engines in the same pod, and when they may be stopped.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=_port, default=9091, help="port to listen on; 0: any")
    parser.add_argument("--engine-host", default="127.0.0.1", help="where the engine listens")
    parser.add_argument(
        "--engine-port",
        type=_port,
        action="append",
        default=[],
        help=f"where one listens; left out: {_ENGINE_PORT}; repeat it for engines of one pod",
    )
    parser.add_argument("--metrics-path", default="/metrics", help="of the engine")
    metrics = (
        ("--running", "gauge of requests that the engine computes"),
        ("--waiting", "gauge of requests that wait in it"),
        ("--usage", "gauge of its key-value cache, 0 to 1"),
        ("--progress", "counter that grows with every request"),
    )
    for flag, words in metrics:
        parser.add_argument(
            flag, action="append", default=[], metavar="METRIC", help=f"{words}; may be repeated"
        )
    parser.add_argument(
        "--drain-seconds",
        type=_seconds,
        default=DrainLimits().total_s,
        help="GET /drain answers after so long, whatever the engine does",
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, above 0, to 86400")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
