"""Which way to a cluster is taken where."""

from pathlib import Path

import pytest

from cluster_fakes import host
from sagepool_cluster.errors import Missing, Unsupported
from sagepool_cluster.prerequisites import (
    Host,
    ensure_node_packages,
    ensure_packages,
    missing_packages,
)
from sagepool_cluster.progress import Silence
from sagepool_cluster.selection import Surroundings, choose, parse_provider

OWN = Path("/state/cluster/kubeconfig")


def around(
    machine: Host,
    kubeconfig: Path | None = None,
    docker: bool = False,
    node_image: bool = False,
) -> Surroundings:
    return Surroundings(machine, kubeconfig, OWN, lambda: docker, lambda: node_image)


def test_a_kubeconfig_wins_over_everything() -> None:
    given = around(host("kind"), Path("/home/ada/.kube/config"), docker=True, node_image=True)
    assert choose(given) == "given"


def test_the_embedded_clusters_own_kubeconfig_means_the_embedded_cluster() -> None:
    assert choose(around(host(), OWN)) == "embedded"


def test_kind_is_taken_where_it_can_start_at_once() -> None:
    assert choose(around(host("kind"), docker=True, node_image=True)) == "kind"


@pytest.mark.parametrize(
    ("programs", "docker", "node_image"),
    [((), True, True), (("kind",), False, True), (("kind",), True, False)],
)
def test_root_on_linux_takes_embedded_where_kind_lacks_something(
    programs: tuple[str, ...], docker: bool, node_image: bool
) -> None:
    assert choose(around(host(*programs), docker=docker, node_image=node_image)) == "embedded"


def test_where_embedded_cannot_run_kind_may_download_its_node() -> None:
    laptop = host("kind", platform="darwin", user_id=501)
    assert choose(around(laptop, docker=True)) == "kind"


@pytest.mark.parametrize(
    ("machine", "reason"),
    [(host(user_id=1000), "it needs root"), (host(platform="darwin"), "it needs Linux")],
)
def test_where_nothing_works_all_three_ways_out_are_named(machine: Host, reason: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        choose(around(machine))
    message = str(refusal.value)
    assert "KUBECONFIG" in message
    assert "kind" in message
    assert reason in message


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Unsupported, match="given, kind, embedded"):
        parse_provider("k3s")


def test_missing_packages_are_named_once_each() -> None:
    needed = {"containerd": "containerd", "ctr": "containerd", "ip": "iproute2"}
    assert missing_packages(host(), needed) == ["containerd", "iproute2"]
    assert missing_packages(host("containerd", "ctr", "ip"), needed) == []


@pytest.mark.parametrize("machine", [host(), host("apt-get", user_id=1000)])
def test_packages_that_may_not_be_installed_are_asked_for_all_at_once(machine: Host) -> None:
    with pytest.raises(Missing, match=r"needs containerd runc .*install them"):
        ensure_packages(machine, ["containerd", "runc"], "a cluster", Silence())


def test_an_embedded_cluster_needs_root_and_says_what_else_works() -> None:
    with pytest.raises(Unsupported, match=r"needs root.*KUBECONFIG"):
        ensure_node_packages(host(user_id=1000), Silence())
