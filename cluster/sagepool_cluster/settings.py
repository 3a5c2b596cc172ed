"""The settings files of the cluster's components, as pure functions of its configuration.

JSON wherever the reader takes YAML: the one is a part of the other, and needs no library.
"""

import base64
import json
from pathlib import Path
from string import Template
from typing import TypeAlias

from sagepool_cluster.config import ClusterConfig

PAUSE_IMAGE = "localhost/pause:1"
COREDNS_IMAGE = "localhost/coredns:1"

Document: TypeAlias = dict[str, object]

_CONTAINERD = Template("""\
version = 2
root = "$state/containerd/root"
state = "$state/containerd/state"

[grpc]
  address = "$socket"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  # Without CAP_SYS_RESOURCE, as in most sandboxes, no score below the parent's can be set.
  restrict_oom_score_adj = true
  # As in containerd 2: pods without rights may listen on port 53 or 80 of their own address.
  enable_unprivileged_ports = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$plugins"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
""")


def containerd_toml(config: ClusterConfig, plugin_folder: Path) -> str:
    """Return containerd's settings; the CNI plugins are in `plugin_folder`."""
    return _CONTAINERD.substitute(
        state=config.state,
        socket=config.containerd_socket,
        pause=PAUSE_IMAGE,
        plugins=plugin_folder,
    )


def cni_network(config: ClusterConfig) -> Document:
    """Return the pods' network: a wire for each pod, addresses from the node's range.

    No `portmap`: host ports are not offered. NetworkPolicies are accepted and not enforced.
    """
    node_range = next(config.pod_range.subnets(new_prefix=24))
    return {
        "cniVersion": "0.4.0",
        "name": config.name,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(node_range)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
        ],
    }


def kubelet_configuration(config: ClusterConfig) -> Document:
    """Return kubelet's settings."""
    pki = config.state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{config.name}",
        "clusterDNS": [str(config.dns_service)],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{config.containerd_socket}",
        # A full disk is the developer's business: nothing is evicted or collected for it.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "failCgroupV1": False,
        "failSwapOn": False,
        "nodeStatusReportFrequency": "10s",
        # Images come from archives: a parallel pull is of no use, a slow one of no harm.
        "serializeImagePulls": False,
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": f"{config.state}/volume-plugins",
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
    }


def proxy_configuration(config: ClusterConfig) -> Document:
    """Return kube-proxy's settings."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(config.state / "kube-proxy.kubeconfig")},
        "clusterCIDR": str(config.pod_range),
        # The limit belongs to the whole machine: leave it.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "hostnameOverride": config.name,
        "mode": "iptables",
    }


def audit_policy() -> Document:
    """Return what the API server's audit log holds: who asked for what, no bodies.

    Every write, and what service accounts read (the cluster's own left out), so that a test can
    count a controller's writes and compare its calls with its rights.
    """
    reads = ["get", "list", "watch"]
    own = ["system:serviceaccounts:kube-system"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": reads, "userGroups": own},
            {"level": "Metadata", "verbs": reads, "userGroups": ["system:serviceaccounts"]},
            {"level": "None", "verbs": reads},
            {"level": "Metadata"},
        ],
    }


def kubeconfig(config: ClusterConfig, identity: str) -> Document:
    """Return a kubeconfig for this identity; certificates inside, so the file can be moved."""
    pki = config.state / "pki"

    def content(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": config.name,
                "cluster": {
                    "server": config.server,
                    "certificate-authority-data": content("ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": identity,
                "user": {
                    "client-certificate-data": content(f"{identity}.crt"),
                    "client-key-data": content(f"{identity}.key"),
                },
            }
        ],
        "contexts": [{"name": config.name, "context": {"cluster": config.name, "user": identity}}],
        "current-context": config.name,
    }


def resolver_file(etc: str, upstream: str | None) -> str:
    """Return the resolv.conf for the cluster's namespaces.

    `etc` is the machine's own; where it names only loopback resolvers, which do not answer inside
    another network namespace, systemd-resolved's list of the real ones (`upstream`) is better.
    """
    servers = [line.split()[1] for line in etc.splitlines() if line.startswith("nameserver ")]
    if upstream is not None and all(server.startswith(("127.", "::1")) for server in servers):
        return upstream
    return etc


def coredns_manifest(config: ClusterConfig) -> str:
    """Return the objects of the cluster's DNS."""
    template = Template((Path(__file__).parent / "coredns.yaml").read_text())
    return template.substitute(image=COREDNS_IMAGE, address=config.dns_service)


def write_settings(config: ClusterConfig, plugin_folder: Path) -> None:
    """Write all of it below the state folder; kubeconfigs are readable by their owner alone."""
    state = config.state
    documents = {
        "cni/10-pods.conflist": cni_network(config),
        "kubelet.json": kubelet_configuration(config),
        "kube-proxy.json": proxy_configuration(config),
        "audit-policy.json": audit_policy(),
        "kubelet.kubeconfig": kubeconfig(config, "kubelet"),
        "kube-controller-manager.kubeconfig": kubeconfig(config, "kube-controller-manager"),
        "kube-scheduler.kubeconfig": kubeconfig(config, "kube-scheduler"),
        "kube-proxy.kubeconfig": kubeconfig(config, "kube-proxy"),
        "kubeconfig": kubeconfig(config, "admin"),
    }
    (state / "cni").mkdir(exist_ok=True)
    for name, document in documents.items():
        path = state / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1) + "\n")
    (state / "containerd.toml").write_text(containerd_toml(config, plugin_folder))
