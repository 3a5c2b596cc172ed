"""The CustomResourceDefinitions that a cluster has are brought to this version."""

from copy import deepcopy

import pytest

from kube_fake import FakeKube
from sagepool_crds.crd import build_crds
from sagepool_kube.api import CUSTOM_RESOURCE_DEFINITIONS
from sagepool_kube.errors import Forbidden
from sagepool_operator.kinds import update_kinds

POOLS, INSTANCES = (crd["metadata"]["name"] for crd in build_crds().values())


@pytest.fixture
def kube() -> FakeKube:
    """A cluster with a former version of pools, and none of instances."""
    kube = FakeKube()
    former = deepcopy(next(iter(build_crds().values())))
    del former["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    former["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    kube.put(CUSTOM_RESOURCE_DEFINITIONS, former)
    return kube


async def test_one_that_is_there_gets_this_versions_spec_and_keeps_its_labels(
    kube: FakeKube,
) -> None:
    said: list[str] = []
    await update_kinds(kube, said.append)
    crd = kube.read(CUSTOM_RESOURCE_DEFINITIONS, None, POOLS)
    assert crd["spec"] == next(iter(build_crds().values()))["spec"]
    assert crd["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
    assert said[0] == f"{POOLS}: updated"


async def test_one_that_is_not_there_is_left_to_its_maker(kube: FakeKube) -> None:
    said: list[str] = []
    await update_kinds(kube, said.append)
    assert [crd["metadata"]["name"] for crd in kube.all(CUSTOM_RESOURCE_DEFINITIONS)] == [POOLS]
    assert said[1].startswith(f"{INSTANCES}: not there")


async def test_again_nothing_changes(kube: FakeKube) -> None:
    await update_kinds(kube, lambda _: None)
    said: list[str] = []
    await update_kinds(kube, said.append)
    assert said[0] == f"{POOLS}: unchanged"


async def test_what_the_server_refuses_is_no_success(kube: FakeKube) -> None:
    kube.fail_next("apply", Forbidden("no right"), CUSTOM_RESOURCE_DEFINITIONS)
    with pytest.raises(Forbidden, match="no right"):
        await update_kinds(kube, lambda _: None)
