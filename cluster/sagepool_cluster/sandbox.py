"""The namespaces that an embedded cluster lives in.

All its processes share one mount, one network and one pid namespace, made by unshare(1) and held
by a process that does nothing else (the pause program). Ending that one process makes the kernel
end every other in it, containers included, and take mounts, interfaces and packet filter rules
along. So nothing can be left behind, whatever crashed before.
"""

import resource
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sagepool_cluster.commands import Argument, run
from sagepool_cluster.errors import ComponentFailed, NotRunning
from sagepool_cluster.processes import (
    Process,
    find_process,
    pid_namespace,
    running_processes,
    send_signal,
)
from sagepool_cluster.waiting import wait_until


class Sandbox:
    """One set of namespaces, known by the path its holder was started under."""

    def __init__(self, holder: Path) -> None:
        """Look after the namespaces held by the program at this path (a link to pause)."""
        self._holder = holder

    def holder(self) -> Process | None:
        """Return the process that holds the namespaces; None when there are none."""
        return find_process(self._holder)

    def create(self, log: Path) -> Process:
        """Make the namespaces; mounts made inside stay inside, later ones outside come in.

        Raises ComponentFailed with what unshare wrote to the log, as where the rights are lacking.
        """
        # fmt: off
        command: list[Argument] = [
            "setsid", "--fork",
            "unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc",
            "--propagation", "slave", self._holder,
        ]
        # fmt: on
        run_detached(command, log)
        try:
            wait_until(lambda: self.holder() is not None, "the cluster's namespaces", limit_s=10)
        except ComponentFailed as error:
            raise ComponentFailed(f"{error}: {log.read_text(errors='replace')}") from error
        # Pods may ask for mounts that follow the node's: those need a shared mount to follow.
        self.run(["mount", "--make-rshared", "/"])
        return self._required_holder()

    def run(self, command: Sequence[Argument]) -> str:
        """Run the command inside to its end; return its output. Raises like `commands.run`."""
        return run([*self._enter(), *command])

    def spawn(self, command: Sequence[Argument], log: Path) -> None:
        """Start the command inside, detached, its output appended to the log.

        It may open as many files as this process could at most: containers inherit that, and a
        server in one needs more than the 1024 that shells start with.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        raised = ["prlimit", f"--nofile={most}:{most}"]
        run_detached([*self._enter(), *raised, "setsid", "--fork", *command], log)

    def find(self, program: Path) -> Process | None:
        """Return the process inside that was started under this path."""
        holder = self.holder()
        if holder is None:
            return None
        namespace = pid_namespace(holder.pid)
        wanted = str(program)
        for process in running_processes():
            if process.program == wanted and pid_namespace(process.pid) == namespace:
                return process
        return None

    def stop(self, program: Path, limit_s: float) -> None:
        """Ask the process inside to end and wait until it has; kill it after `limit_s` seconds."""
        process = self.find(program)
        if process is None:
            return
        send_signal(process, signal.SIGTERM)
        try:
            wait_until(lambda: self.find(program) is None, program.name, limit_s)
        except ComponentFailed:
            send_signal(process, signal.SIGKILL)
            wait_until(lambda: self.find(program) is None, f"killing {program.name}", 10)

    def destroy(self) -> None:
        """End every process inside and wait until they are gone; nothing happens if none is."""
        holder = self.holder()
        if holder is None:
            return
        namespace = pid_namespace(holder.pid)
        send_signal(holder, signal.SIGKILL)
        wait_until(
            lambda: self.holder() is None and not _is_inhabited(namespace),
            "ending the cluster's processes",
            limit_s=30,
        )

    def _required_holder(self) -> Process:
        holder = self.holder()
        if holder is None:
            raise NotRunning("the embedded cluster is not running: bring it up first")
        return holder

    def _enter(self) -> list[Argument]:
        pid = str(self._required_holder().pid)
        return ["nsenter", "--target", pid, "--mount", "--net", "--pid", "--"]


def _is_inhabited(namespace: str | None) -> bool:
    return any(pid_namespace(process.pid) == namespace for process in running_processes())


def run_detached(command: Sequence[Argument], log: Path) -> None:
    """Run a command that detaches itself; what it leaves running writes to the log.

    Raises ComponentFailed when the command itself ends in an error.
    """
    with log.open("ab") as output:
        status = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).returncode
    if status != 0:
        words = " ".join(str(word) for word in command)
        raise ComponentFailed(f"`{words}` ended with {status}; its output is in {log}")
