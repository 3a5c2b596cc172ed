"""One installation of the chart and one pool for all tests; pools of their own for some."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_audit import AuditLog
from e2e_endpoint import reach_router
from e2e_installation import OPERATOR_SELECTOR, Installation
from e2e_pods import run_as_root
from e2e_pool import Pool, build_pool
from kubectl import Kubectl
from required_environment import read_required
from sagepool_cluster.cluster import find_provider
from sagepool_cluster.provider import Provider

RELEASE_NAMESPACE = "sagepool-e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a cluster, the image, and more time than a unit test."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def image() -> str:
    """The image of our programs, which `make test` has built and loaded."""
    sentence = "needs the image: run `make test`, or set SAGEPOOL_TEST_IMAGE"
    return read_required("SAGEPOOL_TEST_IMAGE", sentence)


@pytest.fixture(scope="session")
def provider(kubeconfig: Path) -> Provider:
    """What the cluster offers beyond its API."""
    return find_provider(kubeconfig=kubeconfig)


@pytest.fixture(scope="session")
def installation(kubeconfig: Path, image: str) -> Iterator[Installation]:
    """The chart, installed for the whole cluster; no other operator runs meanwhile."""
    kubectl = Kubectl(kubeconfig, RELEASE_NAMESPACE)
    found = Installation(kubectl, image)
    paused = _pause_other_operators(kubectl)
    try:
        found.install()
        yield found
    finally:
        # An installation that fails may run all the same, on the pools of every later test.
        found.uninstall()
        kubectl.run("delete", "namespace", RELEASE_NAMESPACE, "--wait=false")
        for namespace, name, replicas in paused:
            place = Kubectl(kubeconfig, namespace)
            place.run("scale", "deployment", name, f"--replicas={replicas}")


def _pause_other_operators(kubectl: Kubectl) -> list[tuple[str, str, int]]:
    """Scale operators of other releases to 0: the demo's would work on the tests' pools.

    Returns namespace, name and former replicas of each.
    """
    others = []
    found = kubectl.get("deployment", "--all-namespaces", "-l", OPERATOR_SELECTOR)["items"]
    for deployment in found:
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        replicas = deployment["spec"]["replicas"]
        if namespace != RELEASE_NAMESPACE and replicas:
            place = Kubectl(kubectl.kubeconfig, namespace)
            place.run("scale", "deployment", name, "--replicas=0")
            place.run("wait", "--for=delete", "pod", "-l", OPERATOR_SELECTOR, "--timeout=60s")
            others.append((namespace, name, replicas))
    return others


@pytest.fixture
def own_pool(installation: Installation, namespace: Kubectl) -> Pool:
    """A pool of the test's own, to be applied by it."""
    return Pool(namespace)


@pytest.fixture(scope="session")
def _shared_namespace(installation: Installation) -> Iterator[Kubectl]:
    kubectl = Kubectl(installation.kubectl.kubeconfig, f"test-{uuid.uuid4().hex[:8]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
def pool(_shared_namespace: Kubectl) -> Pool:
    """A Ready pool of two chat engines and one for embeddings, as every test finds it."""
    shared = Pool(_shared_namespace)
    manifest = build_pool()
    manifest["spec"]["groups"][0]["replicas"] = 2
    shared.apply(manifest)
    shared.wait_ready()
    return shared


@pytest.fixture
def url(pool: Pool) -> Iterator[str]:
    """Base URL of the shared pool's endpoint, without /v1."""
    with reach_router(pool.kubectl, pool.name) as found:
        yield found


@pytest.fixture
def audit(provider: Provider) -> AuditLog:
    """The API server's audit log, from the test's beginning."""
    if provider.audit_log is None:
        pytest.skip(f"the cluster ({provider.name}) has no audit log that we can read")
    return AuditLog(provider.audit_log)


@pytest.fixture
def _cluster_operator_away(installation: Installation) -> Iterator[None]:
    """The operator for the whole cluster does not take the work away."""
    try:
        installation.scale_operator(0)
        yield
    finally:
        installation.scale_operator()


@pytest.fixture
def second_release(
    _cluster_operator_away: None, installation: Installation, image: str
) -> Iterator[Installation]:
    """A release in a namespace of its own, to be installed by the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl = Kubectl(installation.kubectl.kubeconfig, name)
    kubectl.run("create", "namespace", name)
    release = Installation(kubectl, image, release=name)
    yield release
    release.uninstall()
    kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def volume(own_pool: Pool, image: str) -> Iterator[str]:
    """The storage class of a volume on the node that the downloader's user may write."""
    name = f"models-{uuid.uuid4().hex[:8]}"
    path = f"/var/tmp/{name}"
    kubectl = own_pool.kubectl
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": path, "type": "DirectoryOrCreate"},
    }
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    )
    mount = {"hostPath": {"path": "/var/tmp"}}
    prepare = f"import os; os.makedirs('{path}', exist_ok=True); os.chown('{path}', 65532, 65532)"
    run_as_root(kubectl, image, "prepare", prepare, mount)
    yield name
    kubectl.run("delete", "pod", "--all", "--force", "--grace-period=0")
    run_as_root(kubectl, image, "tidy", f"import shutil; shutil.rmtree('{path}')", mount)
    kubectl.run("delete", "pv", name, "--wait=false")
