"""A Kubernetes of one node on this machine, started from what was built here."""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster import components
from sagepool_cluster.apiserver import ApiServer
from sagepool_cluster.archive import write_program_image
from sagepool_cluster.build import NODE, TOOLS, Builder, locked
from sagepool_cluster.commands import run
from sagepool_cluster.components import component_command, program_path
from sagepool_cluster.config import ClusterConfig
from sagepool_cluster.errors import ComponentFailed, NotRunning, Unsupported
from sagepool_cluster.machine import PRIVATE_FOLDERS, Machine
from sagepool_cluster.pki import write_pki
from sagepool_cluster.prerequisites import Host, ensure_node_packages
from sagepool_cluster.progress import Progress
from sagepool_cluster.sandbox import Sandbox
from sagepool_cluster.settings import (
    COREDNS_IMAGE,
    PAUSE_IMAGE,
    coredns_manifest,
    resolver_file,
    write_settings,
)
from sagepool_cluster.waiting import wait_until

_START_LIMIT_S = 120.0
_LOAD_LIMIT_S = 900.0
"""For images of many GB on a busy disk."""
_FORK_LIMIT_S = 2.0
"""A component is started by a process that forks: it is not there at once under its own name."""


@dataclass(frozen=True, slots=True)
class EmbeddedProvider:
    """Brings an embedded cluster up and down."""

    config: ClusterConfig
    host: Host
    progress: Progress
    builder: Builder

    name = "embedded"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; there while the cluster is up."""
        return self.config.kubeconfig

    @property
    def audit_log(self) -> Path | None:
        """The API server's record of writes, and of what service accounts read."""
        return self.config.audit_log

    def tools(self) -> Path:
        """Return the folder with kubectl, helm and kubeconform; builds them the first time."""
        return self.builder.ensure(TOOLS)

    def up(self) -> Path:
        """Return the kubeconfig of a healthy cluster.

        Nothing happens when it is healthy; parts that ended are started again; what a crash or a
        reboot left of an earlier one is cleaned up first. Raises a ClusterError.
        """
        plugin_folder = ensure_node_packages(self.host, self.progress)
        with self._lock():
            if self._sandbox.holder() is not None and self._settings_path.exists():
                self._check_settings()
                if not self.is_healthy():
                    self._start_components()
            else:
                self._clean()
                self._create(plugin_folder)
        return self.kubeconfig

    def down(self) -> None:
        """End the cluster and undo all that it changed on the machine; again is no harm."""
        refusal = self.host.refusal()
        if refusal is not None:
            raise Unsupported(f"no embedded cluster to take down: {refusal}")
        with self._lock():
            self._clean()

    def is_healthy(self) -> bool:
        """Whether every component runs, the API server answers, node and DNS are ready."""
        sandbox = self._sandbox
        running = (
            sandbox.find(program_path(self.config, component)) is not None
            for component in components.START_ORDER
        )
        if not all(running):
            return False
        api = self._api()
        return (
            api.is_ready()
            and api.node_is_ready(self.config.name)
            and api.deployment_is_available("kube-system", "coredns")
        )

    def status(self) -> dict[str, str]:
        """Return each component's state, in a person's words."""
        sandbox = self._sandbox
        states = {}
        for component in components.START_ORDER:
            process = sandbox.find(program_path(self.config, component))
            states[component] = "stopped" if process is None else f"running, pid {process.pid}"
        return states

    def load_image(self, archive: Path) -> None:
        """Make the images of the archive (`docker save` or OCI layout) known to the node."""
        self._require_running()
        loaded_path = self.config.state / "loaded.json"
        loaded = json.loads(loaded_path.read_text()) if loaded_path.exists() else {}
        facts = archive.stat()
        version = [facts.st_mtime_ns, facts.st_size]
        if loaded.get(str(archive)) == version:
            return
        # fmt: off
        run(["ctr", "--address", self.config.containerd_socket, "--namespace", "k8s.io",
             "images", "import", archive], timeout_s=_LOAD_LIMIT_S)
        # fmt: on
        loaded_path.write_text(json.dumps({**loaded, str(archive): version}, indent=1))

    def stop_api_server(self) -> None:
        """Stop the API server alone and return once it is gone.

        It would wait up to a minute for requests that it is at; after 5 s it is killed.
        """
        self._require_running()
        self._sandbox.stop(program_path(self.config, components.API_SERVER), limit_s=5)

    def start_api_server(self) -> None:
        """Start the API server again and return once it is ready."""
        self._require_running()
        self._start(components.API_SERVER)
        self._await_api_server()

    @property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.config.state / "bin" / "init")

    @property
    def _settings_path(self) -> Path:
        return self.config.state / "settings.json"

    def _lock(self) -> AbstractContextManager[None]:
        state = self.config.state
        return locked(state.with_name(f"{state.name}.lock"), self.progress, "another up or down")

    def _api(self) -> ApiServer:
        return ApiServer(self.config.server, self.config.state / "pki")

    def _require_running(self) -> None:
        if self._sandbox.holder() is None:
            raise NotRunning("the embedded cluster is not running: bring it up first")

    def _check_settings(self) -> None:
        if json.loads(self._settings_path.read_text()) != self._settings():
            self.progress.say(
                "the running cluster was made from other settings or sources: "
                "take it down and up again to have the new ones"
            )

    def _settings(self) -> dict[str, str]:
        config = self.config
        return {
            "programs": str(self.builder.folder(NODE)),
            "ranges": f"{config.pod_range} {config.service_range} {config.link_range}",
        }

    def _clean(self) -> None:
        if self._sandbox.holder() is not None:
            self.progress.say("ending the cluster's processes")
        self._sandbox.destroy()
        Machine(self.config).restore()
        if self.config.state.exists():
            shutil.rmtree(self.config.state)

    def _create(self, plugin_folder: Path) -> None:
        config, machine = self.config, Machine(self.config)
        machine.check_ranges()
        programs = self.builder.ensure(NODE)
        self.tools()
        config.state.mkdir(mode=0o700, parents=True)
        for folder in ("bin", "log", "etcd", "containerd"):
            (config.state / folder).mkdir()
        self._link_programs(programs)
        write_pki(config)
        write_settings(config, plugin_folder)
        machine.prepare()
        holder = self._sandbox.create(self._log("namespaces"))
        machine.connect(holder.pid)
        self._furnish()
        self._settings_path.write_text(json.dumps(self._settings(), indent=1))
        self._start_components()

    def _link_programs(self, programs: Path) -> None:
        for component in components.START_ORDER:
            own = self.host.which(component) if component == "containerd" else programs / "kube"
            program_path(self.config, component).symlink_to(str(own))
        (self.config.state / "bin" / "init").symlink_to(programs / "pause")

    def _furnish(self) -> None:
        """Set up what is inside the namespaces: network, private folders, name servers."""
        config, sandbox = self.config, self._sandbox
        for folder in PRIVATE_FOLDERS:
            own = config.state / "private" / folder.name
            own.mkdir(parents=True)
            sandbox.run(["mount", "--bind", own, folder])
        etc, resolved = Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")
        upstream = resolved.read_text() if resolved.exists() else None
        resolver = config.state / "resolv.conf"
        resolver.write_text(resolver_file(etc.read_text() if etc.exists() else "", upstream))
        if etc.exists():
            sandbox.run(["mount", "--bind", resolver, etc.resolve()])
        address = f"{config.node_address}/{config.link_range.prefixlen}"
        sandbox.run(["ip", "link", "set", "lo", "up"])
        sandbox.run(["ip", "address", "add", address, "dev", "eth0"])
        sandbox.run(["ip", "link", "set", "eth0", "up"])
        sandbox.run(["ip", "route", "add", "default", "via", str(config.host_address)])
        sandbox.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])

    def _start_components(self) -> None:
        self._start("etcd")
        self._start("containerd")
        self._start(components.API_SERVER)
        self._load_own_images()
        self._await_api_server()
        self.progress.say("the API server is ready")
        for component in components.START_ORDER:
            self._start(component)
        self._apply(coredns_manifest(self.config))
        api = self._api()
        self._await("the node", lambda: api.node_is_ready(self.config.name), "kubelet")
        self.progress.say("the node is ready")
        self._await(
            "the cluster's DNS",
            lambda: api.deployment_is_available("kube-system", "coredns"),
            "kubelet",
        )
        self.progress.say("the cluster's DNS is ready")

    def _start(self, component: str) -> None:
        if self._sandbox.find(program_path(self.config, component)) is None:
            command = component_command(self.config, component)
            self._sandbox.spawn(command, self._log(component))

    def _load_own_images(self) -> None:
        # Where the running cluster's programs are: the sources may have changed since.
        programs = (self.config.state / "bin" / "init").readlink().parent
        self._await("containerd", self.config.containerd_socket.is_socket, "containerd")
        for reference, program in ((PAUSE_IMAGE, "pause"), (COREDNS_IMAGE, "coredns")):
            archive = programs / f"{program}.tar"
            if not archive.exists():
                write_program_image(archive, reference, programs / program)
            self.load_image(archive)

    def _apply(self, manifest: str) -> None:
        kubectl = self.tools() / "kubectl"
        environ = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        # fmt: off
        run([kubectl, "apply", "--server-side", "--force-conflicts", "--filename", "-"],
            stdin=manifest, environ=environ)
        # fmt: on

    def _await_api_server(self) -> None:
        self._await("the API server", self._api().is_ready, components.API_SERVER)

    def _await(self, what: str, holds: Callable[[], bool], component: str) -> None:
        absent_since: float | None = None

        def holds_or_fails() -> bool:
            nonlocal absent_since
            if holds():
                return True
            now = time.monotonic()
            if self._sandbox.find(program_path(self.config, component)) is not None:
                absent_since = None
            elif absent_since is None:
                absent_since = now
            elif now - absent_since > _FORK_LIMIT_S:
                raise ComponentFailed(f"{component} ended")
            return False

        try:
            wait_until(holds_or_fails, f"{what} is not ready", _START_LIMIT_S)
        except ComponentFailed as error:
            log = self._log(component)
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ComponentFailed(
                f"{error}. If it stays so, take the cluster down and up again. "
                f"The end of {log}:\n{tail}"
            ) from error

    def _log(self, component: str) -> Path:
        return self.config.state / "log" / f"{component}.log"
