"""Entries of a Secret and of a file: what they say, and what refuses them without telling it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.auth.entries import EntryError, KeyEntry, read_document, read_entries
from sagepool_router.auth.entries import read_entry as read
from sagepool_router.auth.limits import KeyLimits

SECRET = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        f"{SECRET}\n".encode(),
        f"\ufeff{SECRET}\r\n".encode(),
        SECRET,
        f"key: {SECRET}".encode(),
        json.dumps({"key": SECRET}).encode(),
        f'{{"key":"{SECRET}"}}'.encode(),
        f"key: |\n  {SECRET}\n".encode(),
        f"# of the web shop\nkeys: [{SECRET}]\n".encode(),
        f"  key: {SECRET}\n  weight: 1\n".encode(),
        {"key": SECRET},
    ],
)
def test_a_secret_stands_alone_or_in_settings(content: object) -> None:
    assert read("alice", content) == KeyEntry("alice", (SECRET,))


def test_settings_say_what_the_key_may_do() -> None:
    text = f"""
    keys: [{SECRET}, {OTHER}, {SECRET}]
    priority: High
    weight: 2
    requestsPerMinute: 600
    tokensPerMinute: 200000
    maxConcurrency: 32
    models: [a, b, a]
    """
    assert read("alice", text.encode()) == KeyEntry(
        "alice",
        (SECRET, OTHER),
        priority=1,
        weight=2.0,
        limits=KeyLimits(600, 200_000, 32),
        models=frozenset(("a", "b")),
    )


@pytest.mark.parametrize("secret", ["a" * 16, "Zm9v+/Zm9vYmFyYmE==", "a.b_c~d-e/f+gh-0123"])
def test_whatever_a_bearer_token_can_be_is_a_secret(secret: str) -> None:
    assert read("alice", secret.encode()).secrets == (secret,)


@pytest.mark.parametrize("secret", ["2026-11-27T10:00:00Z", "11:22:33:44:55:66"])
def test_a_secret_that_looks_like_a_date_or_a_number_is_not_read_as_one(secret: str) -> None:
    # neither is a bearer token, for its colons: said as such, and not as a wrong type
    with pytest.raises(EntryError, match="bearer token"):
        read("alice", f"key: {secret}".encode())


def test_a_model_that_is_named_like_a_date_is_its_name() -> None:
    entry = read("alice", f"key: {SECRET}\nmodels: [2026-11-27]".encode())
    assert entry.models == frozenset(("2026-11-27",))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"a23456789012345", "fewer than 16"),
        (b"x" * 513, "more than 512"),
        (b"x" * 70_000, "larger than"),
        (b"\xff\xfe" * 20, "UTF-8"),
        (f'"{SECRET}"'.encode(), "bearer token"),
        (f"key:{SECRET}".encode(), "bearer token"),
        (f"{SECRET} {OTHER}".encode(), "bearer token"),
        (f"{SECRET}\n{OTHER}\n".encode(), "bearer token"),
        (f"key: {SECRET}\nkey: : {OTHER}".encode(), r"not valid YAML \(line 2\)"),
        (f"key: *{SECRET}".encode(), r"not valid YAML"),
        (f"key: !{SECRET} x".encode(), r"not valid YAML"),
        (f"key: {SECRET}\x00".encode(), "not valid YAML"),
        (f"key: {SECRET}\nkey: {OTHER}".encode(), r"not valid YAML \(line 2\)"),
        (f"key: {SECRET}\n---\nkey: {OTHER}".encode(), "holds 2 YAML documents"),
        (f"- {SECRET}".encode(), "settings with a field key"),
        ({}, "one of the fields key"),
        ({"key": SECRET, "keys": [SECRET]}, "one of the fields key"),
        ({"key": 1234567890123456}, "in quotes"),
        ({"key": None}, "in quotes"),
        ({"key": ""}, "empty"),
        ({"keys": []}, "keys must be a list"),
        ({"keys": SECRET}, "keys must be a list"),
        ({"keys": [SECRET, "short"]}, "fewer than 16"),
        ({"keys": [SECRET, None]}, "keys must be a list"),
        ({"key": SECRET, "requestPerMinute": 1}, "did you mean requestsPerMinute"),
        ({"key": SECRET, 7: 1}, "number 2 is unknown: known are key"),
        ({"key": SECRET, OTHER: 1}, "number 2 is unknown"),
        ({"key": SECRET, "priority": OTHER}, "priority must be"),
        ({"key": SECRET, "priority": 5}, "priority must be"),
        ({"key": SECRET, "priority": True}, "priority must be"),
        ({"key": SECRET, "weight": 0}, "weight must be"),
        ({"key": SECRET, "weight": float("nan")}, "weight must be"),
        ({"key": SECRET, "weight": True}, "weight must be"),
        ({"key": SECRET, "weight": OTHER}, "weight must be"),
        ({"key": SECRET, "requestsPerMinute": 0}, "requestsPerMinute must be"),
        ({"key": SECRET, "tokensPerMinute": 1.5}, "tokensPerMinute must be"),
        ({"key": SECRET, "maxConcurrency": True}, "maxConcurrency must be"),
        ({"key": SECRET, "maxConcurrency": OTHER}, "maxConcurrency must be"),
        ({"key": SECRET, "models": []}, "models must be"),
        ({"key": SECRET, "models": OTHER}, "models must be"),
        ({"key": SECRET, "models": [1]}, "models must be"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_tells_no_secret(
    content: object, told: str
) -> None:
    with pytest.raises(EntryError, match=told) as caught:
        read("alice", content)
    message = str(caught.value).lower()
    assert not any(secret[3:9] in message for secret in (SECRET, OTHER))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "a~", "ä", "a" * 254])
def test_names_are_those_that_a_secret_can_have(name: str) -> None:
    with pytest.raises(EntryError, match="its name"):
        read(name, SECRET)


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_is_read_or_refused(content: bytes) -> None:
    found = read_entries({"alice": content})
    assert len(found.accepted) + len(found.refused) == 1


def test_one_wrong_entry_leaves_the_others_alone() -> None:
    found = read_entries({"carol": OTHER, "bob": "short", "alice": SECRET})
    assert [entry.name for entry in found.accepted] == ["alice", "carol"]
    assert list(found.refused) == ["bob"]


def test_a_secret_belongs_to_one_name() -> None:
    found = read_entries({"bob": {"keys": [OTHER, SECRET]}, "alice": SECRET, "carol": OTHER})
    # what was refused owns nothing: carol's secret is free
    assert [entry.name for entry in found.accepted] == ["alice", "carol"]
    assert found.refused == {"bob": "it has the same secret as alice: give each its own"}


def test_an_entry_shows_no_secret() -> None:
    found = read_entries({"alice": {"keys": [SECRET, OTHER]}})
    assert SECRET not in repr(found)
    assert OTHER not in repr(found)


def test_a_file_holds_the_same_entries() -> None:
    text = f"alice: {SECRET}\nbob: {{key: {OTHER}, maxConcurrency: 2}}\ncarol: 12\n"
    found = read_document(text.encode())
    assert found.accepted == (
        KeyEntry("alice", (SECRET,)),
        KeyEntry("bob", (OTHER,), limits=KeyLimits(max_concurrency=2)),
    )
    assert list(found.refused) == ["carol"]


@pytest.mark.parametrize("text", [b"", b"\n# nobody yet\n"])
def test_an_empty_file_holds_no_entries(text: bytes) -> None:
    assert read_document(text).accepted == ()


@pytest.mark.parametrize(
    "text", [SECRET, f"- {SECRET}", f"1: {SECRET}", f"alice: *{SECRET}", f"{{alice: {SECRET}"]
)
def test_another_file_is_refused_as_a_whole_without_telling_what_is_in_it(text: str) -> None:
    with pytest.raises(EntryError) as caught:
        read_document(text.encode())
    assert SECRET[3:9] not in str(caught.value)
