"""`sagepool-simulator`: an engine on the command line."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from sagepool_simulator.faults import Fault
from sagepool_simulator.settings import Pace, Role, Settings

_DEFAULTS = Settings(models=())
_PACE = Pace()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit code 0: stopped; 1: cannot listen; 2: wrong use."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    # uvloop is loaded only when it is needed
    from sagepool_simulator.server import run
    from sagepool_simulator.wire import ApiError

    try:
        run(_settings(options), options.host, options.port, tuple(options.fault))
    except OSError as error:
        print(
            f"sagepool-simulator: cannot listen on {options.host}:{options.port}: "
            f"{error.strerror or error}; choose another --port",
            file=sys.stderr,
        )
        return 1
    except ApiError as error:
        print(f"sagepool-simulator: {error}: correct --lora-modules", file=sys.stderr)
        return 1
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        models=tuple(options.model),
        adapters=tuple(options.lora_modules),
        is_lora_enabled=options.enable_lora,
        max_lora_rank=options.max_lora_rank,
        root=options.root,
        max_model_len=options.max_model_len,
        dimension=options.dimension,
        max_num_seqs=options.max_num_seqs,
        kv_blocks=options.kv_blocks,
        default_max_tokens=options.default_max_tokens,
        load_s=options.load_seconds,
        keep_alive_s=options.keep_alive_timeout,
        max_body_bytes=options.max_body_bytes,
        shutdown_s=options.shutdown_timeout,
        seed=options.seed,
        pace=Pace(
            first_token_s=options.ttft_ms / 1000,
            inter_token_s=options.itl_ms / 1000,
            prefill_token_s=options.prefill_us_per_token / 1e6,
            embed_call_s=options.embed_ms / 1000,
            embed_token_s=options.embed_us_per_token / 1e6,
            batch_slowdown=options.batch_slowdown,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sagepool-simulator",
        description="An engine with the HTTP surface of vLLM that needs neither GPU nor weights.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve")
    serve = commands.add_parser(
        "serve",
        help="serve one or more models",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serve.add_argument("--host", default="0.0.0.0", help="address to listen on")
    serve.add_argument(
        "--port", type=_whole(0, 65535), default=8000, help="port to listen on; 0: any"
    )
    serve.add_argument(
        "--model",
        type=_model,
        action="append",
        required=True,
        metavar="NAME[=llm|embedding]",
        help="a name to answer to, and what for; may be repeated",
    )
    serve.add_argument("--root", default="", metavar="URI", help="reported as root of its models")
    _add_adapter_flags(serve)
    _add_size_flags(serve)
    _add_pace_flags(serve)
    _add_life_flags(serve)
    return parser


def _add_adapter_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--enable-lora", action="store_true", help="load and unload LoRA adapters on request"
    )
    serve.add_argument(
        "--max-lora-rank",
        type=_whole(1),
        default=_DEFAULTS.max_lora_rank,
        help="adapters of a higher rank are refused",
    )
    serve.add_argument(
        "--lora-modules",
        type=_adapter,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=PATH",
        help="adapters to start with",
    )


def _add_size_flags(serve: argparse.ArgumentParser) -> None:
    one, d = _whole(1), _DEFAULTS
    serve.add_argument(
        "--max-model-len", type=one, default=d.max_model_len, help="longest prompt and answer"
    )
    serve.add_argument("--dimension", type=one, default=d.dimension, help="length of embeddings")
    serve.add_argument(
        "--max-num-seqs", type=one, default=d.max_num_seqs, help="requests computed at once"
    )
    serve.add_argument(
        "--kv-blocks", type=one, default=d.kv_blocks, help="key-value cache, in 16-token blocks"
    )
    serve.add_argument(
        "--default-max-tokens", type=one, default=d.default_max_tokens, help="length of an answer"
    )


def _add_pace_flags(serve: argparse.ArgumentParser) -> None:
    flags = (
        ("--ttft-ms", _PACE.first_token_s, "time to the first token of a lone request"),
        ("--itl-ms", _PACE.inter_token_s, "time between its tokens"),
        ("--prefill-us-per-token", _PACE.prefill_token_s, "added per prompt token not cached"),
        ("--embed-ms", _PACE.embed_call_s, "time of a lone embedding call"),
        ("--embed-us-per-token", _PACE.embed_token_s, "added per token embedded"),
        ("--batch-slowdown", _PACE.batch_slowdown, "all times grow by this part per neighbour"),
    )
    for flag, default, words in flags:
        serve.add_argument(flag, type=_number, default=default, help=words)


def _add_life_flags(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--load-seconds", type=_number, default=0.0, help="nothing listens for that long"
    )
    serve.add_argument(
        "--keep-alive-timeout",
        type=_number,
        default=_DEFAULTS.keep_alive_s,
        help="seconds that a connection may idle",
    )
    serve.add_argument(
        "--shutdown-timeout",
        type=_number,
        default=_DEFAULTS.shutdown_s,
        help="seconds that requests may go on after SIGTERM",
    )
    serve.add_argument(
        "--max-body-bytes",
        type=_whole(1),
        default=_DEFAULTS.max_body_bytes,
        help="larger bodies are answered 413",
    )
    serve.add_argument("--seed", type=_whole(0), default=0, help="of the random choice of faults")
    serve.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="JSON",
        help='a fault from the start on, for example {"kind":"status","status":503,"count":2}; '
        "may be repeated; POST /simulator/faults adds more",
    )


def _model(text: str) -> tuple[str, Role]:
    name, _, role = text.partition("=")
    if not name or role not in ("", "llm", "embedding"):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME, NAME=llm or NAME=embedding")
    return name, cast("Role", role or "llm")


def _adapter(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=PATH")
    return name, path


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bounds = f"from {least} on" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number {bounds}")
        return value

    return parse


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number that is not negative")
    return value


def _fault(text: str) -> Fault:
    try:
        return msgspec.json.decode(text, type=Fault)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
