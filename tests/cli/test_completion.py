"""Completion for shells, under each of the program's two names."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sage_command import Sage


def programs() -> list[Path]:
    """`sage` and `sagepool` as pip has installed them."""
    return [Path(sys.executable).with_name(name) for name in ("sage", "sagepool")]


@pytest.mark.parametrize("program", programs(), ids=lambda path: path.name)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_completes_the_name_that_asked(
    sage: Sage, program: Path, shell: str
) -> None:
    # The shell is the one that runs the program: here a copy of sh under that name.
    at = sage.home.parent / shell
    shutil.copy("/bin/sh", at)
    done = subprocess.run(
        [at, "-c", f"{program} --show-completion; exit $?"],
        env=sage.env(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_{program.name.upper()}_COMPLETE=" in done.stdout.replace("env ", "")


@pytest.mark.parametrize("program", programs(), ids=lambda path: path.name)
def test_commands_and_options_are_completed_in_bash(sage: Sage, program: Path) -> None:
    def complete(words: str) -> list[str]:
        environment = {
            **sage.env(),
            f"_{program.name.upper()}_COMPLETE": "complete_bash",
            "COMP_WORDS": f"{program.name} {words}",
            "COMP_CWORD": str(len(words.split(" "))),
        }
        done = subprocess.run(
            [program], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.split()

    assert complete("inf") == ["inference"]
    assert complete("pool sc") == ["scale"]
    assert "--watch" in complete("pool events rag --w")
    assert complete("pool list -o y") == ["yaml"]
    assert complete("pool list --kubeconfig /none -n A --al") == ["--all-namespaces"]


def test_help_is_under_the_name_that_asked() -> None:
    for program in programs():
        done = subprocess.run(
            [program, "pool", "--help"], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout.strip().startswith(f"Usage: {program.name} pool ")
