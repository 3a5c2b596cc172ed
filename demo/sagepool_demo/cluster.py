"""The cluster as the demo uses it: kubectl, helm, objects as they change, a pod's log."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sagepool_demo.manifests import Manifest
from sagepool_demo.programs import read_lines, run_program


class Kubernetes(Protocol):
    """What telling the story needs of a cluster."""

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; returns what it prints. Raises ProgramFailed."""

    def watch(self, resource: str) -> AsyncGenerator[tuple[str, Manifest], None]:
        """What happens to the objects of a kind: (ADDED, MODIFIED or DELETED; the object)."""

    def follow_log(self, workload: str) -> AsyncGenerator[str, None]:
        """The lines of the log of a workload's pod until it ends. Raises ProgramFailed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """kubectl and helm against one cluster, in one namespace unless told otherwise."""

    kubeconfig: Path
    tools: Path
    """Folder with kubectl and helm."""
    namespace: str

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; returns what it prints. Raises ProgramFailed."""
        return await run_program(self._kubectl(*arguments), stdin=stdin)

    async def helm(self, *arguments: str) -> str:
        """Run helm; returns what it prints. Raises ProgramFailed."""
        command: list[str | Path] = [self.tools / "helm", f"--kubeconfig={self.kubeconfig}"]
        return await run_program([*command, *arguments])

    async def apply(self, *objects: Manifest) -> None:
        """Apply the objects. Raises ProgramFailed."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        await self.kubectl("apply", "-f", "-", stdin=text)

    async def watch(self, resource: str) -> AsyncGenerator[tuple[str, Manifest], None]:
        """What happens to the objects of a kind: (ADDED, MODIFIED or DELETED; the object).

        Raises:
            ProgramFailed: kubectl ended in an error.
        """
        command = self._kubectl(
            "get", resource, "--watch", "--output-watch-events", "--output=json"
        )
        async with aclosing(read_lines(command)) as lines:
            async for line in lines:
                event = json.loads(line)
                yield event["type"], event["object"]

    def follow_log(self, workload: str) -> AsyncGenerator[str, None]:
        """The lines of the log of a workload's pod until it ends. Raises ProgramFailed."""
        return read_lines(self._kubectl("logs", "--follow", workload))

    def _kubectl(self, *arguments: str) -> Sequence[str | Path]:
        return [
            self.tools / "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={self.namespace}",
            *arguments,
        ]
