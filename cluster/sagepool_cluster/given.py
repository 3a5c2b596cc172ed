"""A cluster that somebody else runs: nothing is installed, nothing is taken down."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.commands import run
from sagepool_cluster.errors import CommandFailed, NotRunning, Unsupported
from sagepool_cluster.tools import Tools

_LOADERS = {"kind-": "kind", "minikube": "minikube"}
"""The program that loads an image, by how the context's name begins."""


@dataclass(frozen=True, slots=True)
class GivenProvider:
    """Uses the current context of a kubeconfig."""

    kubeconfig: Path
    toolbox: Tools
    run: Callable[..., str] = run

    name = "given"
    audit_log = None

    def tools(self) -> Path:
        """Return the folder with kubectl, helm and kubeconform."""
        return self.toolbox.folder()

    def up(self) -> Path:
        """Return the kubeconfig if the cluster answers; raise NotRunning if not."""
        if not self.kubeconfig.is_file():
            raise NotRunning(f"there is no kubeconfig {self.kubeconfig}: correct KUBECONFIG")
        try:
            self._kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
        except CommandFailed as error:
            raise NotRunning(
                f"the cluster of {self.kubeconfig} does not answer: start it, or unset KUBECONFIG "
                f"to have one made here ({error})"
            ) from error
        return self.kubeconfig

    def down(self) -> None:
        """Leave the cluster alone: it is not ours."""

    def status(self) -> dict[str, str]:
        """Return the API server's version."""
        return {"server": self._kubectl("version", "--output=yaml").strip()}

    def load_image(self, archive: Path) -> None:
        """Load the archive where the context is one of kind's or minikube's.

        Raises Unsupported otherwise: a cluster at large takes images from a registry only.
        """
        context = self._kubectl("config", "current-context").strip()
        loader = next((one for start, one in _LOADERS.items() if context.startswith(start)), None)
        if loader == "kind":
            cluster = context.removeprefix("kind-")
            self.run(["kind", "load", "image-archive", archive, "--name", cluster], timeout_s=300)
        elif loader == "minikube":
            self.run(["minikube", "image", "load", archive, "--profile", context], timeout_s=300)
        else:
            raise Unsupported(
                f"no way is known to load an image into the cluster of context {context!r}: push "
                "it to a registry that the cluster reads from, and give that name to the chart"
            )

    def stop_api_server(self) -> None:
        """Refuse: it is not ours."""
        raise Unsupported("the API server of a given cluster is not ours to stop")

    def start_api_server(self) -> None:
        """Refuse: it is not ours."""
        raise Unsupported("the API server of a given cluster is not ours to start")

    def _kubectl(self, *arguments: str) -> str:
        environ = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return self.run([self.tools() / "kubectl", *arguments], environ=environ)
