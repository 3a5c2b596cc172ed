"""Fixtures that need a cluster. `make test` brings one up and names it in the environment."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kubectl import Kubectl
from required_environment import read_required
from sagepool_crds.generate import crds_yaml

# How long a machine takes to think of an example is no property of ours.
settings.register_profile(
    "busy machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The cluster's kubeconfig."""
    sentence = "needs a cluster: run `make test`, or set SAGEPOOL_TEST_KUBECONFIG"
    return Path(read_required("SAGEPOOL_TEST_KUBECONFIG", sentence))


@pytest.fixture(scope="session")
def crds(kubeconfig: Path) -> Kubectl:
    """kubectl on a cluster that has today's CRDs."""
    kubectl = Kubectl(kubeconfig)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds_yaml())
    kubectl.run("wait", "--for=condition=Established", "crd", "-l", "!none", "--timeout=30s")
    return kubectl


@pytest.fixture
def namespace(crds: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    crds.run("create", "namespace", name)
    kubectl = Kubectl(crds.kubeconfig, name)
    # Without it no pod is admitted.
    kubectl.run("wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    yield kubectl
    crds.run("delete", "namespace", name, "--wait=false")
