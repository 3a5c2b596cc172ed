"""The components' settings and command lines."""

import json
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from cryptography import x509

from cluster_fakes import config
from sagepool_cluster.components import START_ORDER, component_command
from sagepool_cluster.pki import LIFETIME, identities, write_pki
from sagepool_cluster.settings import (
    cni_network,
    containerd_toml,
    coredns_manifest,
    kubelet_configuration,
    resolver_file,
    write_settings,
)

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def test_everything_that_a_component_writes_is_below_its_state_folder() -> None:
    for component in START_ORDER:
        for argument in component_command(config(), component):
            _, _, value = argument.partition("=")
            if value.startswith("/"):
                assert value.startswith("/state/cluster/")


def test_the_control_plane_is_held_back_only_where_that_is_asked_for() -> None:
    for component in ("kube-controller-manager", "kube-scheduler"):
        usual = component_command(config(), component)
        held_back = component_command(replace(config(), is_throttled=True), component)
        assert set(usual) - set(held_back) == {"--kube-api-qps=500", "--kube-api-burst=1000"}


def test_containerds_settings_are_toml_with_the_clusters_paths() -> None:
    parsed = tomllib.loads(containerd_toml(config(), Path("/opt/cni/bin")))
    assert parsed["root"] == "/state/cluster/containerd/root"
    plugin = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert plugin["restrict_oom_score_adj"] is True
    assert plugin["cni"]["bin_dir"] == "/opt/cni/bin"


def test_pods_get_addresses_of_the_nodes_share_of_the_range() -> None:
    network = json.dumps(cni_network(config()))
    assert '"subnet": "10.244.0.0/24"' in network


def test_pods_are_told_the_address_that_the_dns_service_has() -> None:
    documents = list(yaml.safe_load_all(coredns_manifest(config())))
    (service,) = [one for one in documents if one["kind"] == "Service"]
    kubelet = kubelet_configuration(config())
    assert kubelet["clusterDNS"] == [service["spec"]["clusterIP"]] == ["10.96.0.10"]


def test_a_loopback_resolver_is_replaced_by_those_behind_it() -> None:
    stub, real = "nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n"
    assert resolver_file(stub, real) == real
    assert resolver_file(stub, None) == stub
    assert resolver_file("nameserver 192.0.2.1\n", real) == "nameserver 192.0.2.1\n"


def test_certificates_name_their_bearers_for_a_year(tmp_path: Path) -> None:
    made = config(tmp_path)
    folder = write_pki(made, NOW)
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    for name in identities(made):
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        assert certificate.not_valid_before_utc <= NOW
        assert certificate.not_valid_after_utc - NOW > LIFETIME - timedelta(minutes=6)


def test_the_api_server_is_trusted_at_each_of_its_addresses(tmp_path: Path) -> None:
    folder = write_pki(config(tmp_path), NOW)
    certificate = x509.load_pem_x509_certificate((folder / "apiserver.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [
        IPv4Address("127.0.0.1"),
        IPv4Address("10.96.0.1"),
        IPv4Address("10.245.0.2"),
    ]
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_keys_and_kubeconfigs_are_their_owners_alone(tmp_path: Path) -> None:
    made = config(tmp_path)
    folder = write_pki(made, NOW)
    write_settings(made, Path("/opt/cni/bin"))
    secrets = [*folder.glob("*.key"), *made.state.glob("*kubeconfig")]
    assert len(secrets) == 13
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def test_a_kubeconfig_needs_no_other_file(tmp_path: Path) -> None:
    made = config(tmp_path)
    write_pki(made, NOW)
    write_settings(made, Path("/opt/cni/bin"))
    text = made.kubeconfig.read_text()
    assert str(tmp_path) not in text
    assert yaml.safe_load(text)["clusters"][0]["cluster"]["server"] == "https://10.245.0.2:6443"
