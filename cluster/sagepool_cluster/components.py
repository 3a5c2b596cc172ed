"""The programs of an embedded cluster and their command lines, as pure functions."""

from pathlib import Path

from sagepool_cluster.config import ClusterConfig

API_SERVER = "kube-apiserver"

START_ORDER = (
    "etcd",
    "containerd",
    API_SERVER,
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
"""All of them; those behind the API server need it ready."""

# By default their own 20 requests a second make these two the slowest part of a start.
_UNTHROTTLED = ("--kube-api-qps=500", "--kube-api-burst=1000")

_ETCD = "http://127.0.0.1:2379"


def program_path(config: ClusterConfig, component: str) -> Path:
    """Return the path that the component is started under: it tells us ours from all others."""
    return config.state / "bin" / component


def component_command(config: ClusterConfig, component: str) -> list[str]:
    """Return the component's command line; the addresses are those inside its namespaces."""
    arguments = {
        "etcd": _etcd,
        "containerd": _containerd,
        API_SERVER: _api_server,
        "kube-controller-manager": _controller_manager,
        "kube-scheduler": _scheduler,
        "kubelet": _kubelet,
        "kube-proxy": _proxy,
    }[component]
    return [str(program_path(config, component)), *arguments(config)]


def _etcd(config: ClusterConfig) -> list[str]:
    return [
        f"--data-dir={config.state}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        # A power cut may lose this cluster; it is faster for it.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _containerd(config: ClusterConfig) -> list[str]:
    return [f"--config={config.state}/containerd.toml"]


def _api_server(config: ClusterConfig) -> list[str]:
    state, pki = config.state, config.state / "pki"
    return [
        f"--etcd-servers={_ETCD}",
        "--bind-address=0.0.0.0",
        f"--secure-port={config.api_port}",
        f"--advertise-address={config.node_address}",
        # One server that comes and goes at one address: its endpoint may stay while it is away.
        "--endpoint-reconciler-type=master-count",
        f"--service-cluster-ip-range={config.service_range}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        # The node's name is in no DNS: exec and logs go to its address.
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={state}/audit-policy.json",
        f"--audit-log-path={config.audit_log}",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
    ]


def _controller_manager(config: ClusterConfig) -> list[str]:
    pki = config.state / "pki"
    return [
        *_client(config, "kube-controller-manager"),
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={config.pod_range}",
        # How soon pods may come to a node that has become ready; 5 s by default.
        "--node-monitor-period=1s",
    ]


def _scheduler(config: ClusterConfig) -> list[str]:
    return _client(config, "kube-scheduler")


def _client(config: ClusterConfig, component: str) -> list[str]:
    own = config.state / f"{component}.kubeconfig"
    return [
        f"--kubeconfig={own}",
        f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        *(() if config.is_throttled else _UNTHROTTLED),
    ]


def _kubelet(config: ClusterConfig) -> list[str]:
    return [
        f"--config={config.state}/kubelet.json",
        f"--kubeconfig={config.state}/kubelet.kubeconfig",
        f"--hostname-override={config.name}",
        f"--node-ip={config.node_address}",
        "--v=1",
    ]


def _proxy(config: ClusterConfig) -> list[str]:
    return [f"--config={config.state}/kube-proxy.json"]
