"""From pydantic models to the structural OpenAPI schema that a CRD demands.

pydantic writes `$ref`, `anyOf` with null, `const`, `title`, numeric `exclusiveMinimum` and
`additionalProperties: false`; a structural schema refuses them (Kubernetes documentation,
"Extend the Kubernetes API with CustomResourceDefinitions", structural schemas). What cannot be
turned is refused here, so that nothing is dropped in silence.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from sagepool_crds.markers import SAYS, Rule, rules

_KEPT: Final = frozenset(
    {
        "type",
        "default",
        "enum",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "pattern",
        "required",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    }
)
_BOUNDS: Final = {
    "exclusiveMinimum": ("minimum", "exclusiveMinimum"),
    "exclusiveMaximum": ("maximum", "exclusiveMaximum"),
}

_CHILDREN: Final = frozenset({"properties", "items", "additionalProperties"})
_DROPPED: Final = frozenset({"title", "$defs", "propertyNames"})
"""What says nothing that the server could check: it prunes unknown fields itself, and a map's keys
have no schema there."""


class UnsupportedSchemaError(Exception):
    """A model uses something that a structural schema cannot say."""


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model.

    Raises:
        UnsupportedSchemaError: the model uses a keyword that has no structural counterpart.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _convert(schema, schema.get("$defs", {}), model.__name__)


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with what a factory makes as the default, and no default of null."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        result = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory is not None and not schema.get("default_factory_takes_data"):
            made = cast("Callable[[], Any]", factory)()
            result["default"] = (
                made.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                if isinstance(made, BaseModel)
                else made
            )
        if result.get("default", ...) is None:
            del result["default"]
        return result


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    # A sentence comes last: it takes the place of the pattern before it.
    items = sorted(_resolve(node, defs, path).items(), key=lambda item: item[0] == SAYS)
    for key, value in items:
        if key in _KEPT:
            out[key] = value
        elif key in _BOUNDS:
            bound, exclusive = _BOUNDS[key]
            out[bound], out[exclusive] = value, True
        elif key in _CHILDREN:
            if value is not False:
                out[key] = _convert_child(key, value, defs, path)
        elif key == "description":
            out[key] = " ".join(value.split())
        elif key == "const":
            out["enum"] = [value]
        elif key == SAYS:
            # A pattern's own error shows the expression, which tells a person little.
            rule = Rule(f"self.matches(r'{out.pop('pattern')}')", value)
            out.update(rules(rule))
        elif key not in _DROPPED:
            raise UnsupportedSchemaError(f"{path}: {key} has no place in a structural schema")
    return out


def _convert_child(key: str, value: Any, defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    if key == "properties":
        return {name: _convert(child, defs, f"{path}.{name}") for name, child in value.items()}
    return _convert(value, defs, f"{path}[]")


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    """`node` with its reference followed and its null alternative removed; its own keys win."""
    own = dict(node)
    if "$ref" in own:
        target = defs[own.pop("$ref").removeprefix("#/$defs/")]
        return {**_resolve(target, defs, path), **own}
    if "anyOf" in own:
        choices = [c for c in own.pop("anyOf") if c.get("type") != "null"]
        if len(choices) != 1:
            raise UnsupportedSchemaError(f"{path}: a field has one type, not a choice")
        return {**_resolve(choices[0], defs, path), **own}
    return own
