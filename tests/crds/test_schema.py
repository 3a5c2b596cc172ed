"""The generator's output is what a structural schema may be, and loses nothing of the models."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from sagepool_crds.crd import build_crds
from sagepool_crds.schema import UnsupportedSchemaError, structural_schema


def _nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from _nodes(node[key], f"{path}[]")


def _is_kubernetes(path: str) -> bool:
    """Whether the field is one of a pod's, which Kubernetes explains and bounds by the object."""
    return ".podTemplate." in path


def _schema(plural: str) -> dict[str, Any]:
    version = build_crds()[plural]["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def test_optional_field_loses_its_null() -> None:
    class Model(BaseModel):
        size: int | None = Field(default=None, ge=1)

    assert structural_schema(Model)["properties"]["size"] == {"type": "integer", "minimum": 1}


def test_exclusive_bound_becomes_a_bound_and_a_flag() -> None:
    class Model(BaseModel):
        share: float = Field(gt=0, lt=1)

    assert structural_schema(Model)["properties"]["share"] == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }


def test_nested_model_is_inlined_with_its_defaults() -> None:
    class Inner(BaseModel):
        port: int = 80

    class Outer(BaseModel):
        inner: Inner = Field(default_factory=Inner)

    inner = structural_schema(Outer)["properties"]["inner"]
    assert inner["properties"]["port"]["default"] == 80
    assert inner["default"] == {}


def test_map_keeps_its_sizes_and_says_nothing_of_its_keys() -> None:
    class Model(BaseModel):
        values: dict[Annotated[str, Field(max_length=9)], int] = Field(min_length=1, max_length=3)

    assert structural_schema(Model)["properties"]["values"] == {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "minProperties": 1,
        "maxProperties": 3,
    }


def test_choice_of_types_is_refused() -> None:
    class Model(BaseModel):
        value: int | str

    with pytest.raises(UnsupportedSchemaError, match=r"Model\.value: a field has one type"):
        structural_schema(Model)


def test_keyword_without_counterpart_is_refused() -> None:
    class Model(BaseModel):
        value: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(UnsupportedSchemaError, match="multipleOf has no place"):
        structural_schema(Model)


@pytest.mark.parametrize("plural", sorted(build_crds()))
def test_every_field_says_what_it_means(plural: str) -> None:
    schema = _schema(plural)
    silent = [
        path
        for part in ("spec", "status")
        for path, node in _nodes(schema["properties"][part], part)
        if not path.endswith("[]") and not _is_kubernetes(path) and not node.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("plural", sorted(build_crds()))
def test_everything_a_user_writes_is_bounded(plural: str) -> None:
    """The server's cost estimate for CEL needs bounds, and so does its memory."""
    unbounded = []
    for path, node in _nodes(_schema(plural)["properties"]["spec"], "spec"):
        bounded = {
            "string": "maxLength" in node or "enum" in node,
            "array": "maxItems" in node,
            "integer": "maximum" in node or "enum" in node,
            "number": "maximum" in node,
        }
        if not _is_kubernetes(path) and not bounded.get(node.get("type", ""), True):
            unbounded.append(path)
    assert unbounded == []


@pytest.mark.parametrize("plural", sorted(build_crds()))
def test_a_status_has_no_defaults_of_the_server(plural: str) -> None:
    defaults = [
        path for path, node in _nodes(_schema(plural)["properties"]["status"]) if "default" in node
    ]
    assert defaults == []
