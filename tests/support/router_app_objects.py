"""Objects, files and conditions for tests of the router around its hot path."""

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import yaml

from crd_objects import instance_object, pool_object
from sagepool_router.sources.status import SourceStatus
from sagepool_router.table import RoutingTable


def named_instance(name: str, url: str = "http://10.0.0.7:8000", **spec: Any) -> dict[str, Any]:
    """An instance of that name that serves the pool's chat model."""
    endpoints = [{"role": "llm", "url": url, "models": ["qwen2.5-7b"]}]
    instance = instance_object(**{"endpoints": endpoints, **spec})
    instance["metadata"]["name"] = name
    return instance


def ready(instance: dict[str, Any]) -> dict[str, Any]:
    """The instance as the operator marks it when its engine answers."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "EngineReady",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {**instance, "status": {"phase": "Ready", "conditions": [condition]}}


def write_pool(path: Path, **urls: str) -> Path:
    """A file with the pool and one instance per name and address."""
    objects = [pool_object(), *(named_instance(name, url) for name, url in urls.items())]
    path.write_text(yaml.safe_dump_all(objects))
    return path


class Tables:
    """Takes tables, as a dispatcher does."""

    def __init__(self) -> None:
        self.all: list[RoutingTable] = []

    def swap(self, table: RoutingTable) -> None:
        self.all.append(table)

    @property
    def last(self) -> RoutingTable:
        return self.all[-1]

    def routable(self) -> list[str]:
        """Names of the instances of the last table that get requests."""
        return [view.name for view in self.last.instances if view.routable] if self.all else []


class StillSource:
    """A source that says what it is told and does nothing."""

    def __init__(self) -> None:
        self.said = SourceStatus("kubernetes", "default/rag", is_connected=True, lasted_s=1.0)

    async def run(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    def status(self) -> SourceStatus:
        return self.said
