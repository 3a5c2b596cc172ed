"""kubectl as tests use it: commands with a time-out, and a plain HTTP way to the API server."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def find_tool(name: str) -> str:
    """Path of kubectl, helm or kubeconform: from the cluster's tools folder, else from PATH."""
    folder = os.environ.get("SAGEPOOL_TOOLS", "")
    found = shutil.which(name, path=os.pathsep.join(filter(None, [folder, os.environ["PATH"]])))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run `make cluster`, which builds it")
    return found


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster."""

    kubeconfig: Path
    namespace: str = "default"

    def run(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; `check` turns a failure into an error that shows its output."""
        done = subprocess.run(
            self._command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`."""
        answer: dict[str, Any] = json.loads(self.run("get", *arguments, "-o", "json").stdout)
        return answer

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply -f -` of objects."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("apply", "-f", "-", stdin=text)

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """A base URL that reaches the API server with the kubeconfig's rights, while inside."""
        with subprocess.Popen(
            self._command("proxy", "--port=0"), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:\d+", line)
                assert found is not None, f"kubectl proxy says {line!r}"
                yield f"http://{found.group()}"
            finally:
                process.terminate()

    def _command(self, *arguments: str) -> list[str]:
        return [
            find_tool("kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={self.namespace}",
            *arguments,
        ]
