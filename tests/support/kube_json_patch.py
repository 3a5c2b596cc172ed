"""JSON Patch (RFC 6902) as far as sagepool writes it: test, add, replace."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any


class PatchFailed(Exception):
    """A test does not hold, or a place is not there."""


def patched(obj: Mapping[str, Any], operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The object after the operations."""
    new: dict[str, Any] = copy.deepcopy(dict(obj))
    for operation in operations:
        *steps, last = [_step(part) for part in operation["path"].split("/")[1:]]
        try:
            place: Any = new
            for step in steps:
                place = place[step]
            if operation["op"] == "test" and place[last] != operation["value"]:
                raise PatchFailed(f"testing path {operation['path']} value failed")
            if operation["op"] == "replace":
                place[last]  # must be there
        except (LookupError, TypeError) as error:
            raise PatchFailed(f"missing value: {operation['path']}") from error
        if operation["op"] != "test":
            place[last] = copy.deepcopy(operation["value"])
    return new


def _step(part: str) -> str | int:
    return int(part) if part.isdigit() else part.replace("~1", "/").replace("~0", "~")
