"""`--watch`: a table that follows what changes, on a terminal only."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crd_objects import pool_object
from kube_stub import KubeStub, serves
from sage_command import Sage, free_port, terminal, write_pool

pytestmark = pytest.mark.timeout(120)


def test_status_follows_the_pools_that_come_and_go(sage: Sage, tmp_path: Path) -> None:
    with (
        sage.pool(write_pool(tmp_path / "pool.yaml")),
        terminal(sage, "inference", "status", "--watch") as screen,
    ):
        screen.read_until("rag: ready")
        second = write_pool(tmp_path / "second.yaml", "second")
        port = free_port()
        assert sage.run("inference", "start", "-b", f"-f{second}", f"-p{port}").code == 0
        screen.read_until(f"second: ready, http://127.0.0.1:{port}/v1")
        screen.text = ""
        sage.run("inference", "stop", "second")
        screen.read_until("rag: ready")
        sage.run("inference", "stop", "rag")
        screen.read_until("nothing runs here")
        screen.type("\x03")
        assert screen.process.wait(20) == 130


SPACE = "/apis/sagepool.dev/v1alpha1/namespaces/team-a"
EVENTS = "/apis/events.k8s.io/v1/namespaces/team-a/events"


def event(reason: str) -> dict[str, Any]:
    return {
        "metadata": {"name": reason.lower(), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "type": "Normal",
        "reason": reason,
        "regarding": {"kind": "InferencePool", "name": "rag"},
    }


def model(**cache: Any) -> dict[str, Any]:
    return {"name": "qwen", "role": "llm", "ready": 0, "desired": 1, "cache": cache}


async def test_events_and_models_of_a_cluster_follow_it(sage: Sage, tmp_path: Path) -> None:
    pool = pool_object()
    pool["status"] = {"models": [model(phase="Downloading", bytes=2**30, totalBytes=2**31)]}
    listed = [event("Scaled")]
    there = {
        f"{SPACE}/inferencepools/rag": pool,
        f"{SPACE}/inferencepools": {"items": [pool]},
        f"{SPACE}/inferenceinstances": {"items": []},
        EVENTS: {"items": listed},
    }
    async with KubeStub(serves(there)).running() as stub:
        at = f"--kubeconfig={stub.kubeconfig(tmp_path / 'kubeconfig')}"

        def look_at_events() -> int:
            with terminal(sage, "pool", "events", "rag", "--watch", at) as screen:
                screen.read_until("Scaled")
                listed.append(event("Ready"))
                screen.read_until("Ready")
                screen.type("\x03")
                return screen.process.wait(20)

        def look_at_models() -> int:
            with terminal(sage, "model", "list", "--pool=rag", "--watch", at) as screen:
                screen.read_until("1.0 GiB of 2.0 GiB")
                pool["status"] = {"models": [model(phase="Cached", bytes=2**31, totalBytes=2**31)]}
                screen.read_until("Cached")
                screen.type("\x03")
                return screen.process.wait(20)

        assert await asyncio.to_thread(look_at_events) == 130
        assert await asyncio.to_thread(look_at_models) == 130
