"""The two CustomResourceDefinitions, built from the models."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sagepool_crds import names
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_crds.schema import structural_schema


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def to_schema(self) -> dict[str, Any]:
        """The item of `additionalPrinterColumns`."""
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
            **({"priority": 1} if self.wide else {}),
        }


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was made", "date")
_READY_REASON = ".status.conditions[?(@.type=='Ready')].reason"

_POOL_COLUMNS = (
    Column("Ready", ".status.ready", "Instances that answer, of those that should"),
    Column("Models", ".status.modelNames", "Models that it serves"),
    Column("Source", ".spec.source", "Who may answer: its engines, the cloud, or both (auto)"),
    Column("Endpoint", ".status.endpoint", "Base URL for OpenAI clients"),
    Column("Status", _READY_REASON, "Reason of the Ready condition"),
    _AGE,
    Column(
        "Message",
        ".status.conditions[?(@.type=='Ready')].message",
        "Message of the Ready condition",
        wide=True,
    ),
)
_INSTANCE_COLUMNS = (
    Column("Pool", ".spec.poolRef", "Pool that it belongs to"),
    Column("Role", ".status.roles", "What it answers"),
    Column("Model", ".status.modelNames", "Models that it serves"),
    Column("Phase", ".status.phase", "Summary of its conditions"),
    Column("Running", ".status.load.running", "Requests that the engine computes", "integer"),
    Column("Waiting", ".status.load.waiting", "Requests that wait in the engine", "integer"),
    Column("KV", ".status.load.kvCacheUsage", "Share of the key-value cache in use", "number"),
    _AGE,
    Column("Message", ".status.message", "What it waits for or what is wrong", wide=True),
)


def build_pool_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of InferencePool."""
    return _build(
        InferencePool,
        names.POOL_KIND,
        names.POOL_PLURAL,
        names.POOL_SHORT,
        _POOL_COLUMNS,
        selectable=(),
    )


def build_instance_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of InferenceInstance."""
    return _build(
        InferenceInstance,
        names.INSTANCE_KIND,
        names.INSTANCE_PLURAL,
        names.INSTANCE_SHORT,
        _INSTANCE_COLUMNS,
        selectable=(".spec.poolRef",),
    )


def build_crds() -> dict[str, dict[str, Any]]:
    """Both, by plural name."""
    return {
        names.POOL_PLURAL: build_pool_crd(),
        names.INSTANCE_PLURAL: build_instance_crd(),
    }


def _build(
    model: type[BaseModel],
    kind: str,
    plural: str,
    short: str,
    columns: tuple[Column, ...],
    *,
    selectable: tuple[str, ...],
) -> dict[str, Any]:
    schema = structural_schema(model)
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    schema["required"] = ["spec"]
    version: dict[str, Any] = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                **schema,
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    **schema["properties"],
                },
            }
        },
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.to_schema() for column in columns],
    }
    if selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": [names.CATEGORY],
            },
            "versions": [version],
        },
    }


def _without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    """The schema without its defaults: the server must not write into a status by itself."""
    out = {key: value for key, value in node.items() if key != "default"}
    if "properties" in node:
        out["properties"] = {n: _without_defaults(v) for n, v in node["properties"].items()}
    if "items" in node:
        out["items"] = _without_defaults(node["items"])
    return out
