"""The operator as a process of its own, outside the cluster."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass
class OperatorProcess:
    """A running `sagepool-operator run`."""

    process: subprocess.Popen[str]
    logs: list[dict[str, Any]] = field(default_factory=list)
    """Its log so far."""

    def applied(self) -> list[str]:
        """What it has applied so far, `Kind NAMESPACE/NAME` each."""
        return [f"{x['kind']} {x['object']}" for x in self.logs if x["message"] == "applied"]

    def said(self, message: str) -> list[datetime]:
        """When its log has said this."""
        return [datetime.fromisoformat(x["time"]) for x in self.logs if x["message"] == message]

    def stop(self, limit_s: float = 15.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def operator_process(
    kubeconfig: Path, namespace: str, *, image: str, liveness_port: int, lease: str = ""
) -> Iterator[OperatorProcess]:
    """Run it while inside."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "KUBECONFIG": str(kubeconfig),
        "SAGEPOOL_OPERATOR_IMAGE": image,
        "SAGEPOOL_OPERATOR_NAMESPACE": namespace,
        "SAGEPOOL_OPERATOR_LEASE": lease,
        "SAGEPOOL_OPERATOR_LIVENESS_PORT": str(liveness_port),
        "SAGEPOOL_OPERATOR_PROBE_STARTING_SECONDS": "0.2",
        "SAGEPOOL_OPERATOR_PROBE_PROVIDER_SECONDS": "1",
    }
    command = [sys.executable, "-m", "sagepool_operator.cli", "run"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        running = OperatorProcess(process)
        reader = threading.Thread(target=_read, args=(running,))
        reader.start()
        try:
            yield running
        finally:
            if process.poll() is None:
                running.kill()
            reader.join()


def _read(running: OperatorProcess) -> None:
    for line in running.process.stderr or ():
        running.logs.append(json.loads(line))
