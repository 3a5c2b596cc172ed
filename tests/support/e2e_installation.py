"""The chart, installed from the tree into the cluster, as a person would."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_waiting import wait_until
from kubectl import Kubectl, find_tool

CHART = Path(__file__).parents[2] / "charts" / "sagepool"
RELEASE = "sagepool-e2e"
"""Not the usual name: cluster roles are named after it, and the demo may be there too."""
OPERATOR_SELECTOR = "app.kubernetes.io/name=sagepool,app.kubernetes.io/component=operator"
"""Operators of all releases, and their pods."""
OPERATORS = 2
"""Pods of the operator, as the chart has it."""


@dataclass(frozen=True)
class Installation:
    """A Helm release of the chart; its namespace may have pools, but no second release."""

    kubectl: Kubectl
    """In the release's namespace."""
    image: str
    release: str = RELEASE

    def install(self, *settings: str, image: str = "") -> None:
        """Install or upgrade with these values (`path=value`) and wait until all is ready."""
        repository, _, tag = (image or self.image).rpartition(":")
        place = f"image.repository={repository},image.tag={tag}"
        # fmt: off
        self.helm(
            "upgrade", "--install", self.release, str(CHART), "--create-namespace",
            # A tag may look like a number.
            "--set-string", place,
            *(f"--set={setting}" for setting in settings),
            # The CRDs may be there already, applied by other tests.
            "--take-ownership",
            "--wait", "--timeout", "2m",
        )
        # fmt: on

    def uninstall(self) -> None:
        """Remove the release and wait until its objects are gone."""
        self.helm("uninstall", self.release, "--ignore-not-found", "--wait")

    def helm(self, *arguments: str) -> str:
        """Run helm in the release's namespace."""
        kubectl = self.kubectl
        place = [f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
        done = subprocess.run(
            [find_tool("helm"), *place, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def operator(self) -> dict[str, Any]:
        """The operator's Deployment."""
        (deployment,) = self.kubectl.get("deployment", "-l", OPERATOR_SELECTOR)["items"]
        found: dict[str, Any] = deployment
        return found

    @property
    def operator_user(self) -> str:
        """The operator as the API server knows it."""
        account = self.operator()["spec"]["template"]["spec"]["serviceAccountName"]
        return f"system:serviceaccount:{self.kubectl.namespace}:{account}"

    def leader(self) -> str:
        """Name of the operator's pod that works; empty while none does."""
        lease = self.kubectl.get("lease", self.operator()["metadata"]["name"])
        holder: str = lease["spec"]["holderIdentity"]
        return holder.partition("_")[0]

    def operator_pods(self) -> list[str]:
        """Names of its pods."""
        pods = self.kubectl.get("pod", "-l", OPERATOR_SELECTOR)["items"]
        return [pod["metadata"]["name"] for pod in pods]

    def scale_operator(self, replicas: int = OPERATORS) -> None:
        """Give the operator this many pods and wait until it has."""
        name = self.operator()["metadata"]["name"]
        self.kubectl.run("scale", "deployment", name, f"--replicas={replicas}")
        self.kubectl.run("rollout", "status", f"deployment/{name}", "--timeout=60s")
        wait_until(
            lambda: len(self.operator_pods()) == replicas,
            f"the operator has not {replicas} pods",
            state=self.operator_pods,
        )
