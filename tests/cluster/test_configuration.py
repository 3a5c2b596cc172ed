"""What the environment may ask of the embedded cluster."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from cluster_fakes import config
from sagepool_cluster.config import ClusterConfig, read_config
from sagepool_cluster.errors import Unsupported
from sagepool_cluster.machine import find_conflicts

HOME = Path("/home/ada")


def test_folders_follow_the_xdg_defaults() -> None:
    found = read_config({}, HOME)
    assert found.state == HOME / ".local/state/sagepool/cluster"
    assert found.cache == HOME / ".cache/sagepool"


def test_folders_follow_the_xdg_variables() -> None:
    found = read_config({"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}, HOME)
    assert (found.state, found.cache) == (Path("/s/sagepool/cluster"), Path("/c/sagepool"))


def test_ranges_come_from_the_environment_and_addresses_from_the_ranges() -> None:
    found = read_config(
        {
            "SAGEPOOL_CLUSTER_POD_RANGE": "10.1.0.0/16",
            "SAGEPOOL_CLUSTER_SERVICE_RANGE": "10.2.0.0/16",
            "SAGEPOOL_CLUSTER_LINK_RANGE": "10.3.0.0/30",
        },
        HOME,
    )
    assert found.pod_range == IPv4Network("10.1.0.0/16")
    assert found.kubernetes_service == IPv4Address("10.2.0.1")
    assert found.dns_service == IPv4Address("10.2.0.10")
    assert found.host_address == IPv4Address("10.3.0.1")
    assert found.server == "https://10.3.0.2:6443"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SAGEPOOL_CLUSTER_POD_RANGE", "10.1.0.0/24"),
        ("SAGEPOOL_CLUSTER_POD_RANGE", "10.1.2.3/16"),
        ("SAGEPOOL_CLUSTER_POD_RANGE", "10.96.0.0/12"),
        ("SAGEPOOL_CLUSTER_SERVICE_RANGE", "many"),
        ("SAGEPOOL_CLUSTER_LINK_RANGE", "10.3.0.0/31"),
        ("SAGEPOOL_CLUSTER_NAME", "Sage-Pool"),
        ("SAGEPOOL_CLUSTER_NAME", "anamethatistoolong"),
        ("SAGEPOOL_CLUSTER_STATE", "/a/very/long/path" * 6),
    ],
)
def test_what_the_kernel_would_refuse_later_is_refused_at_once(variable: str, value: str) -> None:
    with pytest.raises(Unsupported, match=value[:10].replace(".", r"\.")):
        read_config({variable: value}, HOME)


def test_the_interface_name_fits_the_kernels_15_characters() -> None:
    longest = ClusterConfig(state=Path("/s"), cache=Path("/c"), name="abcdefghijkl")
    assert len(longest.interface) <= 15


def test_a_route_across_one_of_the_ranges_is_a_conflict_that_names_both() -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "10.0.0.0/8", "dev": "tun0"},
    ]
    conflicts = find_conflicts(config(), routes)
    assert conflicts[0] == (
        "the cluster's range 10.244.0.0/16 is in use: 10.0.0.0/8 is routed to tun0"
    )


def test_routes_of_its_own_are_no_conflict() -> None:
    routes = [
        {"dst": "10.244.0.0/16", "gateway": "10.245.0.2", "dev": "sagepool0"},
        {"dst": "10.96.0.0/16", "gateway": "10.245.0.2", "dev": "sagepool0"},
    ]
    assert find_conflicts(config(), routes) == []


def test_a_host_route_without_a_device_is_judged_too() -> None:
    (conflict,) = find_conflicts(config(), [{"dst": "10.96.0.10", "gateway": "192.0.2.9"}])
    assert conflict.endswith("10.96.0.10/32 is routed to 192.0.2.9")


def test_kubernetes_own_limits_are_kept_where_that_is_asked_for() -> None:
    assert not read_config({}, HOME).is_throttled
    assert read_config({"SAGEPOOL_CLUSTER_THROTTLED": "yes"}, HOME).is_throttled
