"""What makes one embedded cluster differ from another, in one frozen object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path

from sagepool_cluster.errors import Unsupported

KUBERNETES_VERSION = "1.35.4"

# The path of a Unix socket holds at most 107 bytes; this is the longest one that we have.
LONGEST_STATE_PATH = 107 - len("/containerd.sock.ttrpc")

POD_RANGE = IPv4Network("10.244.0.0/16")
SERVICE_RANGE = IPv4Network("10.96.0.0/16")
LINK_RANGE = IPv4Network("10.245.0.0/30")

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The name, folders and address ranges of a cluster.

    Two clusters with different names, state folders and ranges run side by side on one machine.
    Raises Unsupported for a name or path that the kernel would refuse later.
    """

    state: Path
    """What belongs to the running cluster; gone after `down`."""
    cache: Path
    """What was built; kept."""
    name: str = "sagepool"
    """Also the name of the node, of the cgroup and, with a 0 behind it, of the interface."""
    pod_range: IPv4Network = POD_RANGE
    service_range: IPv4Network = SERVICE_RANGE
    link_range: IPv4Network = LINK_RANGE
    """Two addresses: this machine's end and the node's end of the wire between them."""
    api_port: int = 6443
    is_throttled: bool = False
    """Controllers and scheduler keep to Kubernetes' own limits, some tens of requests a second."""

    def __post_init__(self) -> None:
        """Refuse what would only fail deep inside a component."""
        if not _NAME.fullmatch(self.name):
            raise Unsupported(
                f"cluster name {self.name!r}: use a letter and up to 11 letters or digits; "
                "it names a network interface"
            )
        if len(str(self.state)) > LONGEST_STATE_PATH:
            raise Unsupported(
                f"state folder {self.state} is longer than {LONGEST_STATE_PATH} characters and "
                "sockets below it would not open: set SAGEPOOL_CLUSTER_STATE to a shorter path"
            )
        ranges = (self.pod_range, self.service_range, self.link_range)
        for index, one in enumerate(ranges):
            for other in ranges[index + 1 :]:
                if one.overlaps(other):
                    raise Unsupported(f"cluster ranges {one} and {other} overlap: change one")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; there while the cluster is up."""
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line for every write, and for what service accounts read."""
        return self.state / "log" / "audit.jsonl"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.state / "containerd.sock"

    @property
    def interface(self) -> str:
        """The name of this machine's end of the wire."""
        return f"{self.name}0"

    @property
    def host_address(self) -> IPv4Address:
        """This machine, as pods see it."""
        return self.link_range[1]

    @property
    def node_address(self) -> IPv4Address:
        """The node, and the API server on it."""
        return self.link_range[2]

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.node_address}:{self.api_port}"

    @property
    def kubernetes_service(self) -> IPv4Address:
        """The cluster IP of `kubernetes.default.svc`: always the range's first."""
        return self.service_range[1]

    @property
    def dns_service(self) -> IPv4Address:
        """The cluster IP of the cluster's DNS."""
        return self.service_range[10]


def read_config(environ: Mapping[str, str], home: Path) -> ClusterConfig:
    """Return the configuration that the environment asks for.

    Reads SAGEPOOL_CLUSTER_NAME, _STATE, _POD_RANGE, _SERVICE_RANGE, _LINK_RANGE and _THROTTLED,
    and XDG_STATE_HOME and XDG_CACHE_HOME for the folders. Raises Unsupported for what is malformed.
    """
    state_home = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    cache_home = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    state = environ.get("SAGEPOOL_CLUSTER_STATE")
    return ClusterConfig(
        state=Path(state) if state else state_home / "sagepool" / "cluster",
        cache=cache_home / "sagepool",
        name=environ.get("SAGEPOOL_CLUSTER_NAME", "sagepool"),
        pod_range=_range(environ, "POD", POD_RANGE, longest=22),
        service_range=_range(environ, "SERVICE", SERVICE_RANGE, longest=26),
        link_range=_range(environ, "LINK", LINK_RANGE, longest=30),
        is_throttled=environ.get("SAGEPOOL_CLUSTER_THROTTLED", "") == "yes",
    )


def _range(
    environ: Mapping[str, str], kind: str, default: IPv4Network, longest: int
) -> IPv4Network:
    variable = f"SAGEPOOL_CLUSTER_{kind}_RANGE"
    value = environ.get(variable, str(default))
    try:
        network = IPv4Network(value)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise Unsupported(f"{variable}={value}: {error}; give it like {default}") from error
    if network.prefixlen > longest:
        raise Unsupported(f"{variable}={value} is too small: /{longest} or wider")
    return network
