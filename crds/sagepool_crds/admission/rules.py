"""The CEL rules of the CRDs (`x-kubernetes-validations`), evaluated by a CEL library."""

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sagepool_crds.admission.problem import Problem
from sagepool_crds.admission.structure import join

if TYPE_CHECKING:
    import cel

Schema: TypeAlias = Mapping[str, Any]

_OLD: Final = "oldSelf"


def broken_rules(
    schema: Schema, value: Any, old: Any | None = None, path: str = ""
) -> Iterator[Problem]:
    """The rules that the value breaks.

    Rules about a change (those that name oldSelf) are checked where the old object has a value at
    the same place, items of a list being the same when their keys are.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        if (old is not None or _OLD not in rule["rule"]) and not _holds(rule["rule"], value, old):
            yield _problem(rule, value, path)
    if isinstance(value, dict):
        for name, item in value.items():
            inner, here = _field(schema, path, name)
            if inner is not None:
                before = old.get(name) if isinstance(old, Mapping) else None
                yield from broken_rules(inner, item, before, here)
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        for index, item in enumerate(value):
            before = _counterpart(item, old, keys)
            yield from broken_rules(schema["items"], item, before, f"{path}[{index}]")


def _field(schema: Schema, path: str, name: str) -> tuple[Schema | None, str]:
    """The schema of a field, and its path: a map's keys stand in brackets."""
    if name in schema.get("properties", {}):
        return schema["properties"][name], join(path, name)
    return schema.get("additionalProperties"), f"{path}[{name}]"


def _counterpart(item: Any, old: Any | None, keys: Sequence[str]) -> Any | None:
    if not keys or not isinstance(old, list):
        return None
    wanted = [item.get(key) for key in keys]
    return next((it for it in old if [it.get(key) for key in keys] == wanted), None)


def _problem(rule: Mapping[str, str], value: Any, path: str) -> Problem:
    place = (path + rule.get("fieldPath", "")).lstrip(".") or "<nil>"
    # The server shows a text, but no object or list.
    shown = f"{json.dumps(value)}: " if isinstance(value, str) else ""
    return Problem(place, f"Invalid value: {shown}{rule['message']}")


def _holds(expression: str, value: Any, old: Any | None) -> bool:
    variables = {"self": value, "sets": {}}
    if old is not None:
        variables[_OLD] = old
    context = _evaluator().Context(variables)
    context.add_function("intersects", _intersects)
    return _program(expression).execute(context) is True


@cache
def _program(expression: str) -> "cel.Program":
    program: cel.Program = _evaluator().compile(expression)
    return program


@cache
def _evaluator() -> ModuleType:
    """The extension module of the library without the package around it.

    `import cel` loads the package's command line with it, prompt_toolkit and pygments: 10 MB, and a
    tenth of the CPU of a router's start.
    """
    package = PathFinder.find_spec("cel")
    if package is None:
        raise ModuleNotFoundError("No module named 'cel'", name="cel")
    spec = PathFinder.find_spec("cel.cel", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'cel.cel'", name="cel.cel")
    # Under its own name, so that who imports the whole package later finds it.
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def _intersects(_sets: Mapping[str, Any], first: Sequence[Any], second: Sequence[Any]) -> bool:
    """`sets.intersects` of CEL's set extension, which the library lacks: it sees a method of a
    variable `sets`."""
    return any(item in second for item in first)
