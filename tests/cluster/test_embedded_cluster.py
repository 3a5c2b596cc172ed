"""A real embedded cluster of the test's own, beside any other: up, crashes, down, nothing left.

"This machine" is a network namespace of the test, so that it sees every trace that is left in it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sagepool_cluster.build import NODE, TOOLS, Builder
from sagepool_cluster.components import API_SERVER, START_ORDER
from sagepool_cluster.config import ClusterConfig, read_config
from sagepool_cluster.processes import find_process, running_processes, send_signal
from sagepool_cluster.progress import Silence
from sagepool_cluster.waiting import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(300),
]

SETTINGS = {
    "SAGEPOOL_CLUSTER_NAME": "trial",
    "SAGEPOOL_CLUSTER_POD_RANGE": "10.200.0.0/16",
    "SAGEPOOL_CLUSTER_SERVICE_RANGE": "10.201.0.0/16",
    "SAGEPOOL_CLUSTER_LINK_RANGE": "10.202.0.0/30",
}


@dataclass(frozen=True)
class Trial:
    """The test's machine and its cluster."""

    machine: subprocess.Popen[bytes]
    config: ClusterConfig
    environ: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """Run a command on the test's machine."""
        enter = ["nsenter", "--net", "--target", str(self.machine.pid)]
        done = subprocess.run(
            [*enter, *map(str, command)], env=self.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cluster(self, *arguments: str) -> str:
        """Run the command line."""
        words = ["--provider", "embedded", *arguments]
        return self.run(sys.executable, "-m", "sagepool_cluster", *words)

    def kubectl(self, *arguments: str) -> str:
        """Ask the cluster."""
        return self.run(self.tool(), "--kubeconfig", self.config.kubeconfig, *arguments)

    def tool(self) -> Path:
        """Return the path of kubectl."""
        return Builder(self.config.cache, Silence()).folder(TOOLS) / "kubectl"

    def kill(self, component: str) -> None:
        """End a component as a crash does."""
        program = self.config.state / "bin" / component
        process = find_process(program)
        assert process is not None
        send_signal(process, signal.SIGKILL)
        wait_until(lambda: find_process(program) is None, component, 10)

    def traces(self) -> list[str]:
        """Return all that a cluster could have left."""
        state = str(self.config.state)
        processes = [one.program for one in running_processes() if one.program.startswith(state)]
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if state in line]
        rules = [line for line in self.run("iptables-save").splitlines() if line.startswith("-A")]
        links = json.loads(self.run("ip", "-json", "link"))
        interfaces = [link["ifname"] for link in links if link["ifname"] != "lo"]
        cgroups = [str(one) for one in Path("/sys/fs/cgroup").glob("**/trial")]
        left = [str(self.config.state)] if self.config.state.exists() else []
        return [*processes, *mounts, *rules, *interfaces, *cgroups, *left]


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    folder = Path(tempfile.mkdtemp(prefix="sagepool"))
    environ = {**os.environ, **SETTINGS, "SAGEPOOL_CLUSTER_STATE": str(folder / "c")}
    environ.pop("KUBECONFIG", None)
    config = read_config(environ, Path.home())
    if not Builder(config.cache, Silence()).folder(NODE).is_dir():
        pytest.skip("Kubernetes is not built yet: `make cluster` builds it")
    with subprocess.Popen(["unshare", "--net", "sleep", "900"]) as machine:
        one = Trial(machine, config, environ)
        outside = os.readlink("/proc/self/ns/net")
        inside = Path(f"/proc/{machine.pid}/ns/net")
        wait_until(lambda: os.readlink(inside) != outside, "a network namespace", 5)
        one.run("ip", "link", "set", "lo", "up")
        try:
            yield one
        finally:
            one.cluster("down")
            machine.kill()
    shutil.rmtree(folder)


@pytest.fixture
def up(trial: Trial) -> Trial:
    assert trial.cluster("up") == f"{trial.config.kubeconfig}\n"
    return trial


def test_up_again_changes_nothing(up: Trial) -> None:
    before = up.cluster("status")
    assert up.cluster("up") == f"{up.config.kubeconfig}\n"
    assert up.cluster("status") == before
    assert all(f"{component}: running" in before for component in START_ORDER)


def test_names_are_resolved_from_the_first_moment(up: Trial) -> None:
    answer = up.kubectl("get", "--namespace=kube-system", "deployment/coredns", "--output=json")
    assert json.loads(answer)["status"]["availableReplicas"] == 1


def test_components_that_crashed_start_again_and_objects_stay(up: Trial) -> None:
    up.kubectl("create", "namespace", "precious")
    for component in ("etcd", "kubelet", "kube-proxy"):
        up.kill(component)
    up.cluster("up")
    assert "stopped" not in up.cluster("status")
    assert up.kubectl("get", "namespace", "precious", "--output=name") == "namespace/precious\n"
    up.kubectl("delete", "namespace", "precious", "--wait=false")


def test_the_api_server_can_be_away_for_a_while(up: Trial) -> None:
    up.cluster("stop-apiserver")
    assert f"{API_SERVER}: stopped" in up.cluster("status")
    up.cluster("start-apiserver")
    assert up.kubectl("get", "--raw", "/readyz") == "ok"


def test_the_audit_log_has_writes_and_what_service_accounts_read(up: Trial) -> None:
    up.kubectl("create", "configmap", "written")
    up.kubectl("get", "configmap", "written")
    view = ("--clusterrole=view", "--serviceaccount=default:default")
    up.kubectl("create", "clusterrolebinding", "robot", *view)
    token = up.kubectl("create", "token", "default")
    trust = f"--certificate-authority={up.config.state}/pki/ca.crt"
    as_robot = ("--kubeconfig=/dev/null", f"--server={up.config.server}", trust, f"--token={token}")
    up.run(up.tool(), *as_robot, "get", "configmap", "written")
    up.kubectl("delete", "configmap/written", "clusterrolebinding/robot")
    events = [json.loads(line) for line in up.config.audit_log.read_text().splitlines()]
    ours = [one for one in events if one["objectRef"].get("name") == "written"]
    calls = [(one["verb"], one["user"]["username"]) for one in ours]
    assert calls == [
        ("create", "sagepool-admin"),
        ("get", "system:serviceaccount:default:default"),
        ("delete", "sagepool-admin"),
    ]


def test_a_start_after_everything_was_killed_cleans_up_first(up: Trial) -> None:
    up.kill("init")
    assert up.traces() != []
    up.cluster("up")
    assert "stopped" not in up.cluster("status")


def test_down_leaves_nothing_and_down_again_is_no_harm(up: Trial) -> None:
    up.cluster("down")
    up.cluster("down")
    assert up.traces() == []
