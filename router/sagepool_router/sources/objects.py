"""Reads the two kinds from plain objects and says in a sentence what is wrong with one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool

_TOLD_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that this router cannot use."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        """One sentence for people."""
        return f"{self.kind} {self.name} is ignored: {self.reason}"


def read_pool(obj: Mapping[str, Any], *, is_manifest: bool = False) -> InferencePool | Unreadable:
    """Read an InferencePool; in a manifest, what a person wrote, unknown fields are refused."""
    read = InferencePool.from_manifest if is_manifest else InferencePool.from_object
    try:
        return read(obj)
    except pydantic.ValidationError as error:
        return Unreadable("InferencePool", _name(obj), _reason(error))


def read_instance(
    obj: Mapping[str, Any], *, is_manifest: bool = False
) -> InferenceInstance | Unreadable:
    """Read an InferenceInstance; in a manifest unknown fields are refused."""
    read = InferenceInstance.from_manifest if is_manifest else InferenceInstance.from_object
    try:
        return read(obj)
    except pydantic.ValidationError as error:
        return Unreadable("InferenceInstance", _name(obj), _reason(error))


def _name(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return str(name) if name else "without a name"


def _reason(error: pydantic.ValidationError) -> str:
    """Field and rule of the first errors; never the values, which may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in found[:_TOLD_ERRORS]]
    more = len(found) - len(told)
    return "; ".join(told) + (f" and {more} more" if more else "")
