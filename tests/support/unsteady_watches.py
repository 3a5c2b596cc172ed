"""Watches of the fake API server as a bad connection makes them: late, repeated, broken off."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from random import Random
from typing import Any

from kube_fake import FakeKube
from sagepool_kube.api import Kind, Object, ObjectList, WatchEvent
from sagepool_kube.errors import Gone, Unavailable

_LATEST_S = 0.03
_Versions = dict[tuple[str, str], str]
"""Namespace and name of each object, and its resource version."""


class UnsteadyWatches:
    """A KubeApi whose watches are each late by a time of their own, so that what is shown of one
    kind is older than what is shown of another. Some events come twice; some watches break before
    an event, and some versions are forgotten then."""

    def __init__(self, kube: FakeKube, rng: Random) -> None:
        self._kube = kube
        self._rng = rng
        self.repeated = 0
        self.broken = 0
        self._shown: dict[Kind, _Versions] = {}

    def have_shown_all(self) -> bool:
        """Whether whoever lists and watches has taken in all that there is of these kinds."""
        return all(shown == _versions(self._kube.all(kind)) for kind, shown in self._shown.items())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def list(self, kind: Kind, namespace: str | None, **options: Any) -> ObjectList:
        """Read all objects that match."""
        found = await self._kube.list(kind, namespace, **options)
        self._shown[kind] = _versions(found.items)
        return found

    async def watch(
        self, kind: Kind, namespace: str | None, **options: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after a version, as they come through."""
        async with aclosing(self._kube.watch(kind, namespace, **options)) as events:
            async for event in events:
                yield event
                if event.type == "BOOKMARK":
                    continue
                self._show(kind, event)
                await asyncio.sleep(self._rng.uniform(0, _LATEST_S))
                what = self._rng.random()
                if what < 0.2:
                    self.repeated += 1
                    yield event
                elif what < 0.3:
                    self.broken += 1
                    error = self._rng.choice((Gone, Unavailable))
                    raise error(f"watch {kind.resource}: cut off")

    def _show(self, kind: Kind, event: WatchEvent) -> None:
        versions = _versions([event.object])
        if event.type == "DELETED":
            for address in versions:
                self._shown[kind].pop(address, None)
        else:
            self._shown[kind] |= versions


def _versions(objects: Iterable[Object]) -> _Versions:
    return {
        (o["metadata"].get("namespace", ""), o["metadata"]["name"]): o["metadata"][
            "resourceVersion"
        ]
        for o in objects
    }
