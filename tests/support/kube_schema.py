"""What an API server does with an object and its CRD's schema: defaults, and strict refusal."""

import copy
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


class Refused(Exception):
    """The object does not follow its schema."""


def admit(schema: Schema, value: Any, path: str = "") -> Any:
    """The value with the schema's defaults filled in.

    Raises:
        Refused: unknown field, wrong type, missing field, value out of range, repeated list key.
    """
    _check_value(schema, value, path)
    if isinstance(value, dict):
        return _admit_object(schema, value, path)
    if isinstance(value, list):
        _check_keys(schema, value, path)
        return [admit(schema["items"], item, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def _admit_object(schema: Schema, value: Mapping[str, Any], path: str) -> dict[str, Any]:
    properties = schema.get("properties")
    if properties is None:
        inner = schema.get("additionalProperties")
        if inner is None:
            return dict(value)
        return {key: admit(inner, item, f"{path}.{key}") for key, item in value.items()}
    full = dict(value)
    for name, field in properties.items():
        if name not in full and "default" in field:
            full[name] = copy.deepcopy(field["default"])
    for name in full:
        if name not in properties:
            raise Refused(f"unknown field {path}.{name}")
    for name in schema.get("required", ()):
        if name not in full:
            raise Refused(f"{path}.{name}: Required value")
    return {name: admit(properties[name], item, f"{path}.{name}") for name, item in full.items()}


def _check_value(schema: Schema, value: Any, path: str) -> None:
    wanted = schema.get("type", "object")
    is_wrong = not isinstance(value, _TYPES[wanted])
    if is_wrong or (isinstance(value, bool) and wanted != "boolean"):
        raise Refused(f"{path}: must be of type {wanted}: {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        raise Refused(f"{path}: Unsupported value: {value!r}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        raise Refused(f"{path}: {value!r} should match {schema['pattern']!r}")
    for low, high, size in _sizes(schema, value):
        if not low <= size <= high:
            raise Refused(f"{path}: Invalid value: {value!r} is out of range")


def _sizes(schema: Schema, value: Any) -> list[tuple[float, float, float]]:
    """Lower bound, upper bound and figure to compare."""
    if isinstance(value, (str, list, dict)):
        word = {str: "Length", list: "Items", dict: "Properties"}[type(value)]
        return [(schema.get(f"min{word}", 0), schema.get(f"max{word}", float("inf")), len(value))]
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    return [(low, high, float(value))]


def _check_keys(schema: Schema, items: list[Any], path: str) -> None:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        seen = [tuple(item.get(key) for key in keys) for item in items]
    elif kind == "set":
        seen = [(item,) for item in items]
    else:
        return
    for at, key in enumerate(seen):
        if key in seen[:at]:
            raise Refused(f"{path}[{at}]: Duplicate value: {key}")
