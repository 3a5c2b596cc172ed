"""What docs/api-keys.md shows can be used as it stands, and it names all there is."""

import re
from pathlib import Path

import pytest

from sagepool_router.auth import errors
from sagepool_router.auth.entries import FIELDS, read_document, read_entry
from sagepool_router.errors import RouterError

PAGE = (Path(__file__).parents[3] / "docs" / "api-keys.md").read_text()
EXAMPLES = [
    re.sub("^   ", "", example, flags=re.MULTILINE) if example.startswith("   ") else example
    for example in re.findall(r"```yaml\n(.*?)\n *```", PAGE, re.DOTALL)
]
ENTRIES = [example for example in EXAMPLES if "alice:" not in example]
FILES = [example for example in EXAMPLES if "alice:" in example]


@pytest.mark.parametrize("example", ENTRIES)
def test_an_entry_that_is_shown_can_be_used(example: str) -> None:
    assert read_entry("alice", example.encode()).secrets


@pytest.mark.parametrize("example", FILES)
def test_a_file_that_is_shown_can_be_used(example: str) -> None:
    found = read_document(example.encode())
    assert [entry.name for entry in found.accepted] == ["alice", "bob"]
    assert found.refused == {}


def test_there_are_examples_of_both() -> None:
    assert (len(ENTRIES), len(FILES)) == (2, 1)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_explained(field: str) -> None:
    assert f"`{field}`" in PAGE


@pytest.mark.parametrize(
    "error",
    [
        errors.missing_key(),
        errors.invalid_key(),
        errors.Forbidden("alice", "m", ["n"]),
        errors.RequestsLimited("", 1),
        errors.TokensLimited("", 1),
        errors.ConcurrencyLimited("", 1),
    ],
    ids=lambda error: f"{error.code}-{error.type}",
)
def test_every_refusal_is_explained(error: RouterError) -> None:
    kind = f", type `{error.type}`" if error.status == 429 else ""
    assert f"| {error.status} | `{error.code}`{kind} |" in PAGE
