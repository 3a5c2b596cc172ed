"""The metadata of an object, as the API server checks it beside the schema.

Source: Kubernetes' apimachinery (`api/validation/objectmeta.go`, `util/validation`); the words are
the server's own. A value of another type never reaches it: kubectl cannot read such an object, and
names Go's types; here it is told as for any other field.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagepool_crds.admission.problem import Problem

_TEXTS: Final = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)
_MAPS: Final = ("labels", "annotations")
_KNOWN: Final = frozenset(
    (
        *_TEXTS,
        *_MAPS,
        "generation",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    )
)
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
_LONGEST_ANNOTATIONS: Final = 256 * 1024
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_KEY: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_KEY_RULE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def find_unknown(metadata: Mapping[str, Any]) -> list[str]:
    """Paths of the fields that no object has."""
    return [f"metadata.{name}" for name in metadata if name not in _KNOWN]


def check_metadata(metadata: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with an object's name, labels and annotations; null is as if absent."""
    wrong = list(_wrong_types(metadata))
    if wrong:
        return wrong
    return [
        *_check_name(metadata.get("name") or "", metadata.get("generateName") or ""),
        *_check_labels(metadata.get("labels") or {}),
        *_check_annotations(metadata.get("annotations") or {}),
    ]


def _wrong_types(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    for name in _TEXTS:
        yield from _no_text(f"metadata.{name}", metadata.get(name))
    for name in _MAPS:
        found = metadata.get(name)
        if isinstance(found, dict):
            for key, value in found.items():
                yield from _no_text(f"metadata.{name}", key)
                yield from _no_text(f"metadata.{name}.{key}", value)
        elif found is not None:
            yield _of_type(f"metadata.{name}", "object", found)


def _no_text(path: str, value: Any) -> Iterator[Problem]:
    if value is not None and not isinstance(value, str):
        yield _of_type(path, "string", value)


def _of_type(path: str, wanted: str, value: Any) -> Problem:
    words = f"{path} in body must be of type {wanted}"
    return Problem(path, f"Invalid value: {json.dumps(value, default=str)}: {words}")


def _check_name(name: str, generated: str) -> Iterator[Problem]:
    if not name and generated:
        words = "Required value: an object that is applied is found by its name: give it one"
        yield Problem("metadata.name", words)
    elif not name:
        yield Problem("metadata.name", "Required value: name or generateName is required")
    elif len(name) > _LONGEST_NAME:
        yield _invalid("name", name, f"must be no more than {_LONGEST_NAME} characters")
    elif _NAME.fullmatch(name) is None:
        yield _invalid("name", name, _NAME_RULE)


def _check_labels(labels: Mapping[str, str | None]) -> Iterator[Problem]:
    for key, value in labels.items():
        yield from _check_key("labels", key)
        if value and len(value.encode()) > _LONGEST_LABEL:
            yield _invalid("labels", value, f"must be no more than {_LONGEST_LABEL} bytes")
        if value and _KEY.fullmatch(value) is None:
            yield _invalid("labels", value, _VALUE_RULE)


def _check_annotations(annotations: Mapping[str, str | None]) -> Iterator[Problem]:
    size = 0
    for key, value in annotations.items():
        yield from _check_key("annotations", key, key.lower())
        size += len(key.encode()) + len((value or "").encode())
    if size > _LONGEST_ANNOTATIONS:
        words = f"Too long: may not be more than {_LONGEST_ANNOTATIONS} bytes"
        yield Problem("metadata.annotations", words)


def _check_key(field: str, key: str, checked: str | None = None) -> Iterator[Problem]:
    """A qualified name: an optional prefix, which is a DNS subdomain, and a name."""
    prefix, slash, name = (key if checked is None else checked).rpartition("/")
    if "/" in prefix:
        rule = f"{_KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. "
        yield _invalid(field, key, f"a valid label key {rule}'example.com/MyName')")
        return
    if slash and not prefix:
        yield _invalid(field, key, "prefix part must be non-empty")
    elif len(prefix) > _LONGEST_NAME:
        yield _invalid(field, key, f"prefix part must be no more than {_LONGEST_NAME} bytes")
    elif prefix and _NAME.fullmatch(prefix) is None:
        yield _invalid(field, key, f"prefix part {_NAME_RULE}")
    if not name:
        yield _invalid(field, key, "name part must be non-empty")
    elif len(name.encode()) > _LONGEST_LABEL:
        yield _invalid(field, key, f"name part must be no more than {_LONGEST_LABEL} bytes")
    if _KEY.fullmatch(name) is None:
        yield _invalid(field, key, f"name part {_KEY_RULE}")


def _invalid(field: str, value: str, words: str) -> Problem:
    # Go escapes less than JSON: what it leaves as it is, is left here too.
    shown = json.dumps(value, ensure_ascii=False)
    return Problem(f"metadata.{field}", f"Invalid value: {shown}: {words}")
