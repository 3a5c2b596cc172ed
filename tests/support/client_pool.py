"""A pool of real processes: simulators and a router from a file, as on a person's own machine."""

import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

_LIMIT_S = 30.0
CHAT, EMBEDDING = "tiny-chat", "tiny-embed"


class Program:
    """One of ours, started; its log is a file."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self._log = folder / f"{name}-{uuid.uuid4().hex[:6]}.log"
        self._log.touch()
        command = [str(Path(sys.executable).with_name(name)), "serve", *arguments]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def until(self, pattern: str) -> str:
        """Wait for a line of the log; its group."""
        ends_at = time.monotonic() + _LIMIT_S
        while True:
            match = re.search(pattern, self._log.read_text())
            if match is not None:
                return match[1]
            log = self._log.read_text()
            assert self._process.poll() is None, log
            assert time.monotonic() < ends_at, log
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, gracefully if it can."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@dataclass
class Engine:
    """A simulator and where it listens."""

    program: Program
    url: str

    def break_down(self) -> None:
        """Kill it."""
        self.program.signal(signal.SIGKILL)

    def add_fault(self, **fault: Any) -> None:
        """Make it misbehave; `sagepool_simulator.faults` says how."""
        httpx.post(f"{self.url}/simulator/faults", json=fault, trust_env=False).raise_for_status()


@dataclass
class Pool:
    """A router and its engines."""

    url: str
    router: Program
    chats: Sequence[Engine]
    embeds: Sequence[Engine]


@contextmanager
def running_simulator(
    folder: Path, *models: str, port: int = 0, flags: Sequence[str] = ()
) -> Iterator[Engine]:
    """Run an engine until the block ends."""
    named = [f"--model={model}" for model in models]
    where = ["--host=127.0.0.1", f"--port={port}"]
    program = Program(folder, "sagepool-simulator", *where, *named, *flags)
    try:
        yield Engine(program, "http://" + program.until(r"serving .* on (\S+)"))
    finally:
        program.stop()


@contextmanager
def running_pool(
    folder: Path,
    *,
    port: int = 0,
    chats: int = 1,
    chat_flags: Sequence[str] = (),
    router_flags: Sequence[str] = (),
    spec: Mapping[str, Any] | None = None,
    max_concurrency: int = 64,
    also: Mapping[str, str] | None = None,
) -> Iterator[Pool]:
    """Run a router over engines until the block ends; it is ready.

    Args:
        folder: for its files.
        port: of the router; 0: any.
        chats: how many chat engines.
        chat_flags: of these.
        router_flags: of the router.
        spec: further fields of the pool.
        max_concurrency: of every instance.
        also: further chat engines, address by model.
    """
    with ExitStack() as stack:
        llm = [
            stack.enter_context(running_simulator(folder, CHAT, flags=chat_flags))
            for _ in range(chats)
        ]
        embedding = stack.enter_context(running_simulator(folder, f"{EMBEDDING}=embedding"))
        config = folder / "pool.yaml"
        found = [("llm", CHAT, e.url) for e in llm] + [("embedding", EMBEDDING, embedding.url)]
        found += [("llm", model, url) for model, url in (also or {}).items()]
        config.write_text(yaml.safe_dump_all(_objects(found, spec or {}, max_concurrency)))
        router = Program(
            folder,
            "sagepool-router",
            "--source=file",
            f"--config={config}",
            "--host=127.0.0.1",
            f"--port={port}",
            "--admin-host=127.0.0.1",
            "--admin-port=0",
            "--log-format=json",
            *router_flags,
        )
        stack.callback(router.stop)
        url = "http://" + router.until(r'"listening".*"address": ?"([^"]+)"')
        router.until(rf'"routing table changed".*"routable": ?({len(found)})\b')
        yield Pool(url, router, llm, [embedding])


def _objects(
    engines: Sequence[tuple[str, str, str]], spec: Mapping[str, Any], max_concurrency: int
) -> list[dict[str, Any]]:
    version = {"apiVersion": "sagepool.dev/v1alpha1"}
    models = {model: role for role, model, _ in engines}
    groups = [
        {"name": model, "role": role, "engine": {"type": "simulator"}, "model": {"name": model}}
        for model, role in models.items()
    ]
    pool = {
        **version,
        "kind": "InferencePool",
        "metadata": {"name": "rag"},
        "spec": {"groups": groups, **spec},
    }
    return [
        pool,
        *(
            {
                **version,
                "kind": "InferenceInstance",
                "metadata": {"name": f"{role}-{number}"},
                "spec": {
                    "poolRef": "rag",
                    "engine": "simulator",
                    "endpoints": [{"role": role, "url": url, "models": [model]}],
                    "maxConcurrency": max_concurrency,
                },
            }
            for number, (role, model, url) in enumerate(engines)
        ),
    ]
