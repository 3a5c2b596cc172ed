"""A cluster as the demo sees one, where whatever is asked for has happened at once."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from sagepool_demo.events import Event, Flowing
from sagepool_demo.figures import KINDS, Outcome, summarise, summarise_progress

Change = tuple[str, dict[str, Any]]

_READY = {
    "type": "Ready",
    "status": "True",
    "reason": "AllReady",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@dataclass
class DemoCluster:
    """One pool `rag` with two chat engines, and a client that is asked by all and never fails."""

    closing_words: list[Event] | None = None
    """What the client says at its end; None: what came of its traffic."""
    commands: list[tuple[str, ...]] = field(default_factory=list)
    """Every kubectl command so far."""

    def __post_init__(self) -> None:
        self._pools: asyncio.Queue[Change] = asyncio.Queue()
        self._instances: asyncio.Queue[Change] = asyncio.Queue()
        self._log: asyncio.Queue[str | None] = asyncio.Queue()
        self._engines: list[str] = []
        self._made = 0
        self._generation = 0
        self._outcomes: list[Outcome] = []
        self._scale(2)
        self._say(Flowing(clients=2))

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        self.commands.append(arguments)
        match arguments:
            case ("delete", "pod", name, *_):
                self._remove(name)
                self._add()
            case ("patch", *_, patch):
                self._scale(json.loads(patch.removeprefix("--patch="))[0]["value"])
            case ("exec", *_):
                self._end()
        return ""

    async def watch(self, resource: str) -> AsyncGenerator[Change, None]:
        queue = self._pools if resource.startswith("inferencepools") else self._instances
        while True:
            yield await queue.get()

    async def follow_log(self, workload: str) -> AsyncGenerator[str, None]:
        while (line := await self._log.get()) is not None:
            yield line

    def _scale(self, replicas: int) -> None:
        while len(self._engines) < replicas:
            self._add()
        while len(self._engines) > replicas:
            self._remove(self._engines[0])
        self._generation += 1
        group = {
            "name": "chat",
            "role": "llm",
            "engine": {"type": "simulator"},
            "model": {"name": "m"},
        }
        pool = {
            "kind": "InferencePool",
            "metadata": {"name": "rag", "generation": self._generation},
            "spec": {"groups": [group]},
            "status": {"observedGeneration": self._generation, "conditions": [_READY]},
        }
        self._pools.put_nowait(("MODIFIED", pool))

    def _add(self) -> None:
        self._made += 1
        name = f"rag-chat-{self._made}"
        self._engines.append(name)
        self._instances.put_nowait(("ADDED", self._instance(name)))
        self._outcomes += [Outcome(kind, 0, 0.1, 0.05, name) for kind in KINDS]
        self._say(summarise_progress(self._outcomes, 1))

    def _remove(self, name: str) -> None:
        self._engines.remove(name)
        self._instances.put_nowait(("DELETED", self._instance(name)))

    def _end(self) -> None:
        words = [summarise(self._outcomes, 2)] if self.closing_words is None else self.closing_words
        for event in words:
            self._say(event)
        self._log.put_nowait(None)

    def _say(self, event: Event) -> None:
        self._log.put_nowait(event.model_dump_json())

    def _instance(self, name: str) -> dict[str, Any]:
        return {
            "kind": "InferenceInstance",
            "metadata": {"name": name},
            "spec": {
                "poolRef": "rag",
                "group": "chat",
                "engine": "simulator",
                "endpoints": [{"role": "llm", "models": ["m"]}],
            },
            "status": {"phase": "Ready"},
        }
