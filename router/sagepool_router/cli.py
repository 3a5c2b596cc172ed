"""The command `sagepool-router`.

Exit codes: 0 after a graceful stop; 1 when it could not start or broke down; 2 for wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from sagepool_router.config import OPTIONS, SettingsError, read_settings

_PROGRAM: Final = "sagepool-router"
_USAGE_ERROR: Final = 2


class _Parser(argparse.ArgumentParser):
    """Answers wrong usage with one sentence instead of a page."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        self.exit(_USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; values are read by `config.read_settings`."""
    parser = _Parser(prog=_PROGRAM, description="One OpenAI-compatible endpoint over a pool.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    serve = commands.add_parser(
        "serve",
        help="answer requests until SIGTERM",
        description="Answer requests until SIGTERM. Each flag can also be given as the "
        "environment variable in brackets; the flag wins.",
        allow_abbrev=False,
    )
    for option in OPTIONS:
        default = f", default {option.default}" if option.default is not None else ""
        serve.add_argument(
            option.flag,
            dest=option.name,
            metavar=option.metavar,
            help=f"{option.help} [{option.variable}{default}]",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    flags = vars(build_parser().parse_args(argv))
    try:
        settings = read_settings(flags, os.environ)
    except SettingsError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return _USAGE_ERROR
    # not at the top: --help and a wrong flag are answered without loading the server
    from sagepool_router.serve import run

    return run(settings)
