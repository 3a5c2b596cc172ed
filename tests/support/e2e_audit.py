"""The API server's audit log: who asked for what."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_CREATED = 201
_DECISION = "authorization.k8s.io/decision"
_ANSWERED = ("ResponseStarted", "ResponseComplete")
"""A watch has both, the second when it ends; all other calls have the second alone."""


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """What a rule grants, or a call needs."""

    group: str
    resource: str
    """With its subresource, as rules write it: `deployments/scale`."""
    verb: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the API server answered."""

    at: datetime
    """When it was answered."""
    user: str
    permission: Permission
    namespace: str
    name: str
    code: int
    """Status of the answer."""
    is_denied: bool
    """The caller lacks the permission; a 403 may have other reasons."""

    @property
    def needed(self) -> frozenset[Permission]:
        """Permissions that it took: an apply that makes an object may also create it."""
        if self.permission.verb == "patch" and self.code == _CREATED:
            return frozenset({self.permission, replace(self.permission, verb="create")})
        return frozenset({self.permission})


class AuditLog:
    """The log from now on."""

    def __init__(self, path: Path) -> None:
        """Begin at the log's present end."""
        self._path = path
        self._offset = path.stat().st_size
        self.begun = datetime.now(tz=UTC)

    def calls(self) -> Iterator[Call]:
        """Calls to resources since then, in the order of their answers."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                event = json.loads(line)
                if "objectRef" in event and event["stage"] in _ANSWERED:
                    yield _read_call(event)


def _read_call(event: dict[str, Any]) -> Call:
    ref = event["objectRef"]
    resource = "/".join(filter(None, [ref.get("resource", ""), ref.get("subresource", "")]))
    return Call(
        at=datetime.fromisoformat(event["stageTimestamp"]),
        user=event["user"]["username"],
        permission=Permission(ref.get("apiGroup", ""), resource, event["verb"]),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        is_denied=event.get("annotations", {}).get(_DECISION) == "forbid",
    )


def read_grants(rules: Iterable[dict[str, Any]]) -> frozenset[Permission]:
    """What rules of Roles and ClusterRoles grant on resources."""
    return frozenset(
        Permission(group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", [])
        for resource in rule.get("resources", [])
        for verb in rule["verbs"]
    )
