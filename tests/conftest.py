"""What tests need of a machine: a cluster, or vLLM. `make` provides it and names it in the
environment."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from e2e_waiting import wait_until
from kubectl import Kubectl
from real_engines import Engines
from required_environment import read_required
from sagepool_crds import names
from sagepool_crds.crd import build_crds
from sagepool_crds.generate import crds_yaml

# How long a machine takes to think of an example is no property of ours.
settings.register_profile(
    "busy machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")


def pytest_configure() -> None:
    """A shell that starts the tests in the background has Ctrl-C ignored, and so would all that
    they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run beside each other, those of the one cluster come one after the other: some
    run an operator for all namespaces, some put other CRDs in."""
    for item in items:
        if item.get_closest_marker("cluster") is not None:
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The cluster's kubeconfig."""
    sentence = "needs a cluster: run `make test`, or set SAGEPOOL_TEST_KUBECONFIG"
    return Path(read_required("SAGEPOOL_TEST_KUBECONFIG", sentence))


@pytest.fixture(scope="session")
def engines() -> Engines:
    """The environment that holds vLLM."""
    sentence = "needs vLLM: run `make test-engines`, or set SAGEPOOL_TEST_ENGINES to its Python"
    return Engines(Path(read_required("SAGEPOOL_TEST_ENGINES", sentence)))


@pytest.fixture(scope="session")
def crds(kubeconfig: Path) -> Kubectl:
    """kubectl on a cluster that has today's CRDs."""
    kubectl = Kubectl(kubeconfig)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds_yaml())
    wait_until(lambda: not _read_pending(kubectl), "CRDs established", 30)
    return kubectl


def _read_pending(kubectl: Kubectl) -> list[str]:
    """Our CRDs that the API server does not serve yet.

    `kubectl wait --for=condition` fails on an object that has no conditions at all, as a CRD has
    none for a moment after it was created.
    """
    pending = []
    for crd in kubectl.get("crd", *(f"{plural}.{names.GROUP}" for plural in build_crds()))["items"]:
        conditions = crd.get("status", {}).get("conditions") or ()
        if ("Established", "True") not in {(each["type"], each["status"]) for each in conditions}:
            pending.append(crd["metadata"]["name"])
    return pending


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
