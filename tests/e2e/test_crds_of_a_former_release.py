"""A release over CustomResourceDefinitions of another version."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from e2e_installation import Installation
from kubectl import Kubectl
from sagepool_crds.crd import build_crds
from sagepool_crds.generate import crds_yaml

SETTINGS = ("operator.scope=namespace", "userRoles.aggregate=false")
CRD = "inferencepools.sagepool.dev"


def gpu_fields(crd: dict[str, Any]) -> dict[str, Any]:
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    group = spec["properties"]["groups"]["items"]["properties"]
    fields: dict[str, Any] = group["gpu"]["properties"]
    return fields


@pytest.fixture
def _former_kinds(crds: Kubectl) -> Iterator[None]:
    """The cluster has a version of pools that lacks a field, until the test has ended."""
    former = deepcopy(next(crd for crd in build_crds().values() if crd["metadata"]["name"] == CRD))
    del gpu_fields(former)["pricePerHour"]
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    crds.run(*apply, stdin=yaml.safe_dump(former))
    yield
    crds.run(*apply, stdin=crds_yaml())


@pytest.mark.usefixtures("_former_kinds")
def test_a_release_brings_them_to_its_version_and_the_next_one_changes_nothing(
    second_release: Installation,
) -> None:
    kubectl = second_release.kubectl
    assert "pricePerHour" not in gpu_fields(kubectl.get("crd", CRD))
    second_release.install(*SETTINGS)
    updated = kubectl.get("crd", CRD)
    assert "pricePerHour" in gpu_fields(updated)
    second_release.install(*SETTINGS)
    assert kubectl.get("crd", CRD)["metadata"]["generation"] == updated["metadata"]["generation"]
    assert kubectl.get("job")["items"] == []
