"""Engines that run elsewhere: nobody keeps them here, and the router knows how they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx
import msgspec

from sagepool.laptop.record import Outcome, PartRecord
from sagepool_crds import names


class _Address(msgspec.Struct):
    url: str


class Member(msgspec.Struct):
    """An instance in the router's table."""

    name: str
    routable: bool
    reason: str
    """Why it gets no requests."""
    backends: list[_Address]

    @property
    def urls(self) -> list[str]:
        """The addresses that requests are sent to."""
        return [backend.url for backend in self.backends]


class _Table(msgspec.Struct):
    instances: list[Member]


async def read_table(client: httpx.AsyncClient, admin: str) -> Mapping[str, Member] | None:
    """The instances of the router with this admin address by name; None while it does not tell."""
    try:
        answer = await client.get(f"{admin}/admin/table")
        found = msgspec.json.decode(answer.content, type=_Table)
    except (httpx.HTTPError, msgspec.DecodeError):
        return None
    return {member.name: member for member in found.instances}


def awaited(documents: Iterable[Mapping[str, Any]]) -> list[PartRecord]:
    """The instances of the router's documents that should answer, as parts of the pool.

    Those that are drained should not, nor any while the pool is suspended or only the provider
    answers for it.
    """
    found = list(documents)
    pools = [document["spec"] for document in found if document["kind"] == names.POOL_KIND]
    if any(pool.get("suspend") or pool.get("source") == "cloud" for pool in pools):
        return []
    return [
        _part(document["metadata"]["name"], document["spec"])
        for document in found
        if document["kind"] == names.INSTANCE_KIND and not document["spec"].get("drain")
    ]


def judge(
    parts: Sequence[PartRecord], table: Mapping[str, Member] | None, outcome: Outcome
) -> bool:
    """Write into the parts how the table says that they are; returns whether that is news."""
    before = [(part.phase, part.message) for part in parts]
    for part in parts:
        member = table.get(part.name) if table is not None else None
        if member is not None and member.routable:
            part.phase, part.message = "ready", ""
        elif member is not None:
            part.phase = "starting" if outcome == "starting" else "broken"
            part.message = member.reason
    return before != [(part.phase, part.message) for part in parts]


def _part(name: str, spec: Mapping[str, Any]) -> PartRecord:
    endpoints: Sequence[Mapping[str, Any]] = spec["endpoints"]
    return PartRecord(
        name=name,
        kind="elsewhere",
        group="",
        engine=spec.get("engine", ""),
        models=[model for endpoint in endpoints for model in endpoint["models"]],
        url=endpoints[0]["url"],
        instance=name,
        phase="waiting",
        message="the router has not asked it yet",
    )
