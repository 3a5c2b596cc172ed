"""Manifests are read as kubectl reads them."""

import pytest
import yaml

from sagepool_crds.manifests import load_manifests


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("=", "="),
        ("90", 90),
        ("1.5", 1.5),
        ("true", True),
        ("'90'", "90"),
        ("~", None),
    ],
)
def test_a_scalar_is_what_json_has(text: str, read: object) -> None:
    (found,) = load_manifests(f"a: {text}\nb: 1")
    assert (found["a"], type(found["a"])) == (read, type(read))


def test_a_key_may_look_like_a_date() -> None:
    assert load_manifests("2026-01-01: a") == [{"2026-01-01": "a"}]


def test_merge_keys_merge_and_may_be_overridden() -> None:
    text = "x: {y: {z: &a {<<: &b {k: 1, m: 2}, k: 3}}}\nc: {<<: *a, m: 4}\nd: {<<: [*a, *b]}"
    (found,) = load_manifests(text)
    assert found["x"]["y"]["z"] == {"k": 3, "m": 2}
    assert (found["c"], found["d"]) == ({"k": 3, "m": 4}, {"k": 3, "m": 2})


@pytest.mark.parametrize(
    "text", ["{a: 1, a: 2}", "- {b: [{a: 1, a: 1}]}", "{<<: {c: 1}, a: 1, a: 2}"]
)
def test_a_key_that_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="the key 'a' comes twice"):
        load_manifests(text)


def test_an_anchor_may_hold_itself() -> None:
    (found,) = load_manifests("a: &a {b: *a}")
    assert found["a"]["b"] is found["a"]


def test_empty_documents_are_left_out() -> None:
    assert load_manifests("---\na: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
