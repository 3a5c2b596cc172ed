"""Defaults, types, bounds and unknown fields, as the API server treats a structural schema.

Source: Kubernetes' apiextensions-apiserver (defaulting, pruning, list types) and kube-openapi's
validation; the words are the server's own.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sagepool_crds.admission.problem import Problem

Schema: TypeAlias = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "integer,string": (int, str),
}


def with_defaults(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults where a field is absent, or null and not nullable."""
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        inner = schema.get("additionalProperties", {})
        full = dict(value)
        for name, field in properties.items():
            if full.get(name) is None and "default" in field:
                full[name] = copy.deepcopy(field["default"])
        return {
            name: with_defaults(properties.get(name, inner), item) for name, item in full.items()
        }
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    return value


def find_problems(schema: Schema, value: Any) -> tuple[list[str], list[Problem]]:
    """Paths of the fields that the schema does not have, and what else breaks it."""
    unknown = list(_unknown_fields(schema, value, ""))
    return unknown, list(_problems(schema, value, ""))


def join(path: str, name: str) -> str:
    """The path of a field."""
    return f"{path}.{name}" if path else name


def _unknown_fields(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and "properties" in schema:
        for name, item in value.items():
            if name in schema["properties"]:
                yield from _unknown_fields(schema["properties"][name], item, join(path, name))
            else:
                yield join(path, name)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _unknown_fields(schema["items"], item, f"{path}[{index}]")


def _problems(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    wanted = _wanted_type(schema)
    if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        found = json.dumps(_type_name(value))
        yield Problem(
            path or "<nil>",
            f"Invalid value: {found}: {path} in body must be of type {wanted}: {found}",
        )
        return
    yield from _out_of_bounds(schema, value, path)
    if isinstance(value, dict):
        yield from _problems_of_fields(schema, value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(schema["items"], item, f"{path}[{index}]")
        yield from _repeated(schema, value, path)


def _wanted_type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer,string"
    return str(schema.get("type", "object"))


def _problems_of_fields(schema: Schema, value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem(join(path, name), "Required value")
    for name, item in value.items():
        if name in properties:
            yield from _problems(properties[name], item, join(path, name))
        elif "additionalProperties" in schema:
            yield from _problems(schema["additionalProperties"], item, join(path, name))


def _out_of_bounds(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    if "enum" in schema and value not in schema["enum"]:
        # The server writes numbers as texts.
        supported = ", ".join(json.dumps(str(item)) for item in schema["enum"])
        yield Problem(
            path, f"Unsupported value: {json.dumps(value)}: supported values: {supported}"
        )
    elif isinstance(value, str):
        yield from _bad_length(schema, value, path)
    elif isinstance(value, (list, dict)):
        yield from _bad_size(schema, value, path)
    elif not isinstance(value, bool):
        yield from _bad_number(schema, value, path)


def _bad_length(schema: Schema, value: str, path: str) -> Iterator[Problem]:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if most is not None and len(value) > most:
        yield Problem(path, f"Too long: may not be more than {most} bytes")
    if len(value) < least:
        words = f"{path} in body should be at least {least} chars long"
        yield Problem(path, f"Invalid value: {json.dumps(value)}: {words}")


def _bad_size(
    schema: Schema, value: Sequence[Any] | Mapping[str, Any], path: str
) -> Iterator[Problem]:
    word = "items" if isinstance(value, list) else "properties"
    least = schema.get(f"min{word.capitalize()}", 0)
    most = schema.get(f"max{word.capitalize()}")
    if most is not None and len(value) > most:
        yield Problem(path, f"Too many: {len(value)}: must have at most {most} items")
    if len(value) < least:
        words = f"{path} in body should have at least {least} {word}"
        yield Problem(path, f"Invalid value: {len(value)}: {words}")


def _bad_number(schema: Schema, value: float, path: str) -> Iterator[Problem]:
    least, most = schema.get("minimum"), schema.get("maximum")
    start = f"Invalid value: {_number(value)}: {path} in body should be"
    if most is not None and value > most:
        yield Problem(path, f"{start} less than or equal to {_bound(schema, most)}")
    if least is None:
        return
    if schema.get("exclusiveMinimum") and value <= least:
        yield Problem(path, f"{start} greater than {_bound(schema, least)}")
    elif value < least:
        yield Problem(path, f"{start} greater than or equal to {_bound(schema, least)}")


def _repeated(schema: Schema, items: Sequence[Any], path: str) -> Iterator[Problem]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                words = "must be an object for an array of list-type map"
                yield Problem(f"{path}[{index}]", f"Invalid value: {json.dumps(item)}: {words}")
                return
        seen = [
            json.dumps({key: item.get(key) for key in keys}, separators=(",", ":"))
            for item in items
        ]
    elif kind == "set":
        seen = [json.dumps(item) for item in items]
    else:
        return
    for at, key in enumerate(seen):
        if key in seen[:at]:
            yield Problem(f"{path}[{at}]", f"Duplicate value: {key}")


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    for name in ("boolean", "integer", "number", "string", "array", "object"):
        if isinstance(value, _TYPES[name]):
            return name
    return type(value).__name__


def _bound(schema: Schema, value: float) -> str:
    return _number(value if schema["type"] == "integer" else float(value))


def _number(value: float) -> str:
    """As Go's %g writes it: as short as it can, with an exponent from a million on."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    written = (f"{value:.{precision}e}" for precision in range(17))
    return next((text for text in written if float(text) == value), f"{value:.17e}")
