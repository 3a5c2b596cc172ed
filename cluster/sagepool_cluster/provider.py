"""What every way to a cluster offers."""

from pathlib import Path
from typing import Protocol


class Provider(Protocol):
    """A way to a Kubernetes cluster; all methods raise a ClusterError with the next step."""

    @property
    def name(self) -> str:
        """`given`, `kind` or `embedded`."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; there once the cluster is up."""

    @property
    def audit_log(self) -> Path | None:
        """Writes and service accounts' reads, a JSON object a line; None where there is none."""

    def tools(self) -> Path:
        """Return the folder with kubectl, helm and kubeconform; makes them the first time."""

    def up(self) -> Path:
        """Return the kubeconfig of a cluster that answers; makes it if it is not there."""

    def down(self) -> None:
        """Take down what `up` made, if it made anything; again is no harm."""

    def status(self) -> dict[str, str]:
        """Return each part's state, in a person's words."""

    def load_image(self, archive: Path) -> None:
        """Make the images in the archive (as of `docker save`) known to the cluster's nodes."""

    def stop_api_server(self) -> None:
        """Stop the API server alone; raises Unsupported where that cannot be done."""

    def start_api_server(self) -> None:
        """Start the API server that was stopped; return once it is ready."""
