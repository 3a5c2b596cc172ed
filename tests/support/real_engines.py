"""The environment in which vLLM is installed."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PARSE: Final = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

for command in json.load(sys.stdin):
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    validate_parsed_serve_args(parser.parse_args(command))
"""


@dataclass(frozen=True)
class Engines:
    """The Python of the environment that holds vLLM."""

    python: Path

    @property
    def program(self) -> Path:
        """The command `vllm`."""
        return self.python.with_name("vllm")

    @property
    def packages(self) -> Path:
        """The folder of what is installed."""
        (folder,) = self.python.parents[1].glob("lib/python3.*/site-packages")
        return folder

    def parse(self, commands: Sequence[Sequence[str]]) -> subprocess.CompletedProcess[str]:
        """Have vLLM's own parser read what follows `vllm serve`, each list on its own."""
        return subprocess.run(
            [str(self.python), "-c", _PARSE],
            input=json.dumps([list(command) for command in commands]),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
