"""Every command is on the page, and every option has its words in --help."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sagepool.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "command-line.md").read_text()


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what a person types."""
    below = getattr(command, "commands", {})
    for name, child in below.items():
        yield from commands(child, f"{words} {name}")
    if not below:
        yield words, command


ALL = dict(commands(typer.main.get_command(app), "sage"))


@pytest.mark.parametrize("words", sorted(ALL))
def test_every_command_is_documented_and_explains_itself(words: str) -> None:
    assert re.search(rf"{words}\b", PAGE)
    assert ALL[words].help


@pytest.mark.parametrize("words", sorted(ALL))
def test_every_option_and_argument_has_its_words(words: str) -> None:
    assert [given.name for given in ALL[words].params if not given.help] == []


def test_nothing_is_documented_that_does_not_exist() -> None:
    text = PAGE + (DOCS / "laptop.md").read_text()
    groups = {words.split()[1] for words in ALL if len(words.split()) == 3}
    named = {found.group() for found in re.finditer(r"sage (\w+) ([a-z]+)", text)}
    known = {words for words in named if words.split()[1] in groups}
    assert len(known) > 20
    assert known - set(ALL) == set()
