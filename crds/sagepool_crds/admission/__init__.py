"""Reads an object as the API server would: its defaults, its refusals, its words.

What runs without a cluster (the command line, a pool on this machine) takes and refuses the very
files that a cluster takes and refuses. The CRD's own schema and rules are evaluated; nothing is
written down twice. The schemas lie beside this module, generated: to build them of the models takes
a tenth of the CPU of a router's start, to read them a thousandth.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.admission.metadata import check_metadata, find_unknown
from sagepool_crds.admission.problem import Problem, Refused
from sagepool_crds.admission.structure import find_problems, with_defaults

__all__ = ["Problem", "Refused", "admit"]

_PLURALS: Final = {
    names.POOL_KIND: names.POOL_PLURAL,
    names.INSTANCE_KIND: names.INSTANCE_PLURAL,
}


def admit(obj: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object as the API server would store it, defaults filled in.

    Args:
        obj: an InferencePool or InferenceInstance as a person wrote it.
        old: the object that it takes the place of; rules about changes are checked against it.

    Raises:
        Refused: the API server would refuse it; the message is the server's.
    """
    kind = obj.get("kind")
    if obj.get("apiVersion") != names.API_VERSION or kind not in _PLURALS:
        raise Refused.of_kind(kind, obj.get("apiVersion"))
    schema = _schema(str(kind))
    full: dict[str, Any] = with_defaults(schema, obj)
    metadata = full.get("metadata")
    if not isinstance(metadata, Mapping):
        metadata = {}
    unknown, problems = find_problems(schema, full)
    unknown += find_unknown(metadata)
    if unknown:
        raise Refused.for_unknown_fields(str(kind), unknown)
    problems += check_metadata(metadata)
    if not problems:
        # Not at the top: who only asks for the schema does without the evaluator.
        from sagepool_crds.admission.rules import broken_rules

        problems = list(broken_rules(schema, full, old))
    if problems:
        raise Refused(str(kind), str(metadata.get("name") or ""), problems)
    return full


@cache
def _schema(kind: str) -> dict[str, Any]:
    text = (resources.files(__name__) / f"{_PLURALS[kind]}.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema
