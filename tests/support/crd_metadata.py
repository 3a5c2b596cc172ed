"""Metadata of objects: what a server takes, and what it refuses."""

from typing import Any, Final

LONG: Final = "x" * 64

GOOD: Final[tuple[dict[str, Any], ...]] = (
    {"labels": {"app.kubernetes.io/name": "rag", "UPPER_case.1": ""}},
    {"labels": None, "annotations": {"note": None}},
    {"labels": {"a": None}},
    {"annotations": {"Upper/name": "any words, of any kind\n", "k" * 63: "ä" * 1000}},
    {"labels": {"a" * 63: "x" * 63}},
    {"finalizers": ["example.com/x"], "generateName": "rag-", "creationTimestamp": None},
)

BAD: Final[tuple[dict[str, Any], ...]] = (
    {"labls": {"a": "b"}},
    {"labels": {"a b": "x"}},
    {"labels": {"a": "x y"}},
    {"labels": {"a": "_"}},
    {"labels": {"a b": "x y"}},
    {"labels": {"-a/b": "x"}},
    {"labels": {"A.b/a": "x"}},
    {"labels": {"a/b/c": "x"}},
    {"labels": {"/b": "x"}},
    {"labels": {"b/": "x"}},
    {"labels": {"": "x"}},
    {"labels": {"a": LONG}},
    {"labels": {LONG: "x"}},
    {"labels": {"a." * 127 + "b/c": "x"}},
    {"labels": {"ä": "<&>"}},
    {"annotations": {"a b": "x"}},
)

TOO_LONG: Final[dict[str, Any]] = {"annotations": {"a": "x" * (256 * 1024)}}
TOO_LONG_WORDS: Final = "metadata.annotations: Too long: may not be more than 262144 bytes"
"""A server says besides that it has looked no further."""
