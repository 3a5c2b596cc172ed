"""Marks on models and fields that the CRD's schema carries beyond what pydantic knows."""

from dataclasses import dataclass
from typing import Any, Final

SAYS: Final = "x-sagepool-says"
"""Keyword that the generator turns, with the pattern beside it, into a rule with a message."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the API server; one that names `oldSelf` is checked on updates only."""

    expression: str
    message: str
    """What is wrong and the way out."""
    field_path: str | None = None
    """The field that the server's answer names, relative to where the rule stands."""

    def to_schema(self) -> dict[str, str]:
        """The item of `x-kubernetes-validations`."""
        item = {"rule": self.expression, "message": self.message}
        if self.field_path is not None:
            item["fieldPath"] = self.field_path
        return item


def rules(*items: Rule) -> dict[str, Any]:
    """Schema extra of a model: rules that the API server checks."""
    return {"x-kubernetes-validations": [item.to_schema() for item in items]}


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extra of a list whose items are told apart by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> dict[str, Any]:
    """Schema extra of a list of scalars without duplicates."""
    return {"x-kubernetes-list-type": "set"}


def says(sentence: str) -> dict[str, Any]:
    """Schema extra of a text with a pattern: what the server answers instead of the pattern."""
    return {SAYS: sentence}
