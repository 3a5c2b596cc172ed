"""vLLM as a process of the test's own, with the flags and variables that the operator gives it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from crd_objects import group_object
from real_engines import Engines
from sage_command import free_port
from sagepool_crds.pool import Group
from sagepool_operator.config import Images
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.engines.processes import processes_of

START_LIMIT_S: Final = 900
"""A minute where nothing else runs."""


class EngineProcess:
    """An engine that is started when it is first needed, and again after it was killed.

    Args:
        engines: where vLLM is installed.
        group: what it serves, as a group of a pool.
        log: takes its output.
    """

    def __init__(self, engines: Engines, group: Mapping[str, Any], log: Path) -> None:
        self.group = group
        engine = {**group["engine"], "port": _free_ports()}
        served = Group.model_validate(group_object(**{**group, "engine": engine}))
        self.urls = [f"http://127.0.0.1:{one.engine.port}" for one in processes_of(served)]
        self.url = self.urls[0]
        container = build_engine(served, Images(own=""))
        self._command = [*container.command, *container.args]
        given = {variable["name"]: variable["value"] for variable in container.env}
        # As in an image of vLLM, whose Python and command are the ones that are found.
        path = f"{engines.program.parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, **given, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def start(self) -> None:
        """Start it unless it runs."""
        if self._process is not None and not self._is_killed:
            return
        self.stop()
        self._is_killed = False
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_healthy(self) -> None:
        """Return when it answers, on all of its ports."""
        assert self._process is not None
        end = time.monotonic() + START_LIMIT_S
        while not self._is_healthy():
            assert self._process.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < end, self._log.read_text()[-4000:]
            time.sleep(0.5)

    def kill_server(self) -> None:
        """SIGKILL for the process that has the connections."""
        assert self._process is not None
        self._is_killed = True
        self._process.kill()

    def kill_core(self) -> None:
        """SIGKILL for the process that computes."""
        assert self._process is not None
        self._is_killed = True
        os.kill(_child(self._process.pid, "VLLM::EngineCor"), signal.SIGKILL)

    def kill_one(self, argument: str) -> None:
        """SIGKILL for the one of its processes that has been given this argument."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        for child in (int(word) for one in children for word in one.read_text().split()):
            if argument in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                os.kill(child, signal.SIGKILL)
                return
        raise AssertionError(f"no process has been given {argument}")

    def wait_until_ended(self) -> int:
        """How it has ended by itself."""
        assert self._process is not None
        self._is_killed = True
        return self._process.wait(120)

    def stop(self) -> None:
        """End it and all that it has started; a killed server leaves its core running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _is_healthy(self) -> bool:
        try:
            answers = [httpx.get(f"{url}/health", timeout=5) for url in self.urls]
        except httpx.HTTPError:
            return False
        return all(answer.status_code == 200 for answer in answers)


def _free_ports() -> int:
    """A port that is free like the one after it."""
    while True:
        port = free_port()
        with socket.socket() as after:
            if after.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


def _child(parent: int, name: str) -> int:
    """The process of that name (its first 15 letters) which another has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words, _, fields = stat.read_text().rpartition(") ")
        except FileNotFoundError:
            continue
        if words.endswith(f"({name}") and int(fields.split()[1]) == parent:
            return int(stat.parent.name)
    raise AssertionError(f"{parent} has no child {name}")
