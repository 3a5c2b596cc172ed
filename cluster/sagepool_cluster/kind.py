"""A cluster in Docker containers, made by kind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.commands import run
from sagepool_cluster.config import ClusterConfig
from sagepool_cluster.errors import ClusterError, Unsupported
from sagepool_cluster.progress import Progress
from sagepool_cluster.tools import Tools

_CREATE_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class KindProvider:
    """Brings a kind cluster up and down."""

    config: ClusterConfig
    toolbox: Tools
    progress: Progress
    run: Callable[..., str] = run

    name = "kind"
    audit_log = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; there once the cluster is up."""
        return self.config.state.with_name(f"kind-{self.config.name}.kubeconfig")

    def tools(self) -> Path:
        """Return the folder with kubectl, helm and kubeconform."""
        return self.toolbox.folder()

    def up(self) -> Path:
        """Create the cluster if kind does not know it; return its kubeconfig."""
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        target = ["--name", self.config.name, "--kubeconfig", self.kubeconfig]
        if self._exists():
            self.run(["kind", "export", "kubeconfig", *target])
        else:
            images = node_images(self.run)
            chosen = ["--image", images[0]] if images else []
            self.progress.say(f"creating the kind cluster {self.config.name}")
            command = ["kind", "create", "cluster", *target, "--wait", "180s", *chosen]
            self.run(command, timeout_s=_CREATE_LIMIT_S)
        return self.kubeconfig

    def down(self) -> None:
        """Delete the cluster; kind says nothing of one that is not there."""
        self.run(["kind", "delete", "cluster", "--name", self.config.name], timeout_s=120)
        self.kubeconfig.unlink(missing_ok=True)

    def status(self) -> dict[str, str]:
        """Return whether kind knows the cluster."""
        return {"cluster": "created" if self._exists() else "not created"}

    def load_image(self, archive: Path) -> None:
        """Load the images of the archive into the node."""
        name = self.config.name
        self.run(["kind", "load", "image-archive", archive, "--name", name], timeout_s=900)

    def stop_api_server(self) -> None:
        """Refuse: kind's node restarts it at once."""
        raise Unsupported("the API server of a kind cluster cannot be stopped alone")

    def start_api_server(self) -> None:
        """Refuse: kind's node restarts it at once."""
        raise Unsupported("the API server of a kind cluster cannot be started alone")

    def _exists(self) -> bool:
        return self.config.name in self.run(["kind", "get", "clusters"]).split()


def node_images(run: Callable[..., str] = run) -> list[str]:
    """Return kind's node images that Docker has at hand; none when Docker does not answer."""
    command = ["docker", "images", "kindest/node", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        listed = run(command, timeout_s=10)
    except ClusterError:
        return []
    return [image for image in listed.split() if not image.endswith(":<none>")]
