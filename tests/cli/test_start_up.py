"""What a command loads before it does something: the bound is on imports, time follows."""

import subprocess
import sys

import pytest

from sage_command import Sage

HEAVY = {
    "aiohttp",
    "cel",
    "fastapi",
    "httpx",
    "huggingface_hub",
    "kubernetes",
    "numpy",
    "openai",
    "pydantic",
    "rich",
    "sagepool_crds",
    "sagepool_kube",
    "sagepool_operator",
    "sagepool_router",
    "uvicorn",
    "vllm",
    "yaml",
}
PROBE = """
import sys
from sagepool.cli.app import run
code = run(sys.argv[1:])
print(code, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(sage: Sage, *words: str) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        env=sage.env(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    code, *names = done.stderr.splitlines()[-1].split()
    return code, set(names)


@pytest.mark.parametrize(
    "words", [["--help"], ["inference", "--help"], ["inference", "start", "-h"]]
)
def test_help_loads_the_parser_and_nothing_else(sage: Sage, words: list[str]) -> None:
    code, names = loaded(sage, *words)
    assert code == "0"
    assert names & (HEAVY | {"msgspec"}) == set()


def test_status_loads_what_reads_a_record(sage: Sage) -> None:
    code, names = loaded(sage, "inference", "status")
    assert code == "3"
    assert names & HEAVY == set()


def test_both_names_are_one_program() -> None:
    from importlib.metadata import entry_points

    scripts = entry_points(group="console_scripts")
    assert scripts["sage"].value == scripts["sagepool"].value == "sagepool.cli:main"
