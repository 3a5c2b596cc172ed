"""The front door for tests and the demo."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.config import read_config
from sagepool_cluster.prerequisites import this_host
from sagepool_cluster.progress import Progress, Silence
from sagepool_cluster.provider import Provider
from sagepool_cluster.selection import choose, look_around, make_provider, parse_provider


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers."""

    provider: Provider
    kubeconfig: Path
    tools: Path
    """The folder with kubectl, helm and kubeconform."""

    @property
    def audit_log(self) -> Path | None:
        """Writes and service accounts' reads (audit.k8s.io/v1 Events, one a line), if known."""
        return self.provider.audit_log

    def load_image(self, archive: Path) -> None:
        """Make the images in the archive known to the nodes; raises Unsupported where we can't."""
        self.provider.load_image(archive)

    def stop_api_server(self) -> None:
        """Stop the API server alone; raises Unsupported where we can't."""
        self.provider.stop_api_server()

    def start_api_server(self) -> None:
        """Start it again and wait until it is ready."""
        self.provider.start_api_server()


def find_provider(
    provider: str | None = None,
    kubeconfig: Path | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Provider:
    """Return the provider that is right here, or the one that is asked for.

    Raises Unsupported when there is none, or for malformed settings.
    """
    variables = os.environ if environ is None else environ
    config = read_config(variables, Path.home())
    around = look_around(config, this_host(), variables, kubeconfig)
    name = choose(around) if provider is None else parse_provider(provider)
    return make_provider(name, config, around, progress or Silence())


def bring_up(
    provider: str | None = None,
    kubeconfig: Path | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Cluster:
    """Return a cluster that answers; makes one if need be. Raises a ClusterError."""
    found = find_provider(provider, kubeconfig, environ, progress)
    return Cluster(provider=found, kubeconfig=found.up(), tools=found.tools())
