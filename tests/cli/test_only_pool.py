"""Without an address, the only pool of the kubeconfig's cluster goes before a provider."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crd_objects import pool_object
from kube_stub import Answer, KubeStub, hangs, refuses, serves
from sagepool.cli.only_pool import OnlyPool, find_only_pool
from sagepool.cli.servers import open_client
from sagepool.detection import Detection, detect_async
from sagepool.endpoints import Endpoint, Kind
from sagepool.laptop.errors import CommandError, WrongUse

ALL = "/apis/sagepool.dev/v1alpha1/inferencepools"
SPACE = "/apis/sagepool.dev/v1alpha1/namespaces/team-a"
LOCAL = Endpoint("http://127.0.0.1:1/v1", model="here")
PROVIDER = {"DASHSCOPE_API_KEY": "k", "SAGE_FORCE_CLOUD_API": "true"}


def pools(*names: str, namespace: str = "team-a") -> dict[str, Any]:
    """A list of pools."""
    items = [pool_object() for _ in names]
    for pool, name in zip(items, names, strict=True):
        pool["metadata"].update(name=name, namespace=namespace)
    return {"metadata": {"resourceVersion": "1"}, "items": items}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a person who has nothing yet."""
    for name in ("KUBECONFIG", "DASHSCOPE_API_KEY", "SAGE_FORCE_CLOUD_API"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


async def found(home: Path, answer: Answer, limit_s: float = 20) -> tuple[OnlyPool | None, int]:
    """What is found in a cluster that ~/.kube/config names, and how many requests it took."""
    (home / ".kube").mkdir()
    async with KubeStub(answer).running() as stub:
        stub.kubeconfig(home / ".kube" / "config")
        return await asyncio.to_thread(find_only_pool, limit_s), len(stub.requests)


async def test_the_only_pool_of_the_namespace_is_found(home: Path) -> None:
    there = serves({f"{SPACE}/inferencepools": pools("rag"), ALL: pools("rag", "other")})
    assert await found(home, there) == (OnlyPool("rag", "team-a"), 1)


async def test_where_the_namespace_has_none_the_only_one_of_the_cluster_is_found(
    home: Path,
) -> None:
    there = serves({f"{SPACE}/inferencepools": pools(), ALL: pools("rag", namespace="prod")})
    assert await found(home, there) == (OnlyPool("rag", "prod"), 2)


async def test_several_are_named_and_not_guessed_at(home: Path) -> None:
    with pytest.raises(WrongUse, match=r"\(team-a/a, team-a/b\): name one with --pool"):
        await found(home, serves({f"{SPACE}/inferencepools": pools("b", "a")}))


async def test_a_cluster_without_sagepool_is_passed_over_in_silence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await found(home, serves({})))[0] is None
    assert capsys.readouterr().err == ""


def test_without_a_kubeconfig_no_cluster_is_asked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_only_pool() is None
    assert capsys.readouterr().err == ""


async def test_a_cluster_that_refuses_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await found(home, refuses(401, "Unauthorized", "Unauthorized")))[0] is None
    said = capsys.readouterr().err
    assert said.startswith("sage: the cluster of the kubeconfig is passed over: ")
    assert "Unauthorized" in said


async def test_a_cluster_that_does_not_answer_costs_the_limit_and_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert (await found(home, hangs(), 0.5))[0] is None
    assert time.monotonic() - began < 10
    assert "it did not answer within 0.5 s" in capsys.readouterr().err


Detect = Callable[..., None]


@pytest.fixture
def detects(monkeypatch: pytest.MonkeyPatch) -> Detect:
    """Says what detection finds on this machine; a provider is there besides."""

    def set_found(**local: Endpoint) -> None:
        cloud = asyncio.run(detect_async(PROVIDER))
        result = Detection(
            local.get("llm", cloud.llm),
            local.get("embedding", cloud.embedding),
            tuple(s for s in cloud.steps if not set(local) & set(s.chosen_for)),
        )
        monkeypatch.setattr("sagepool.detection.detect", lambda _environ: result)

    return set_found


@pytest.fixture
def kubeconfig(home: Path) -> None:
    """One of a cluster that refuses every connection."""
    (home / ".kube").mkdir()
    stub = KubeStub(hangs())
    stub.port = 9
    stub.kubeconfig(home / ".kube" / "config")


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize(
    ("local", "kind", "is_asked"),
    [
        ({}, "llm", True),
        ({"embedding": LOCAL}, "llm", True),
        ({"llm": LOCAL}, "embedding", True),
        ({"llm": LOCAL}, "llm", False),
        ({"embedding": LOCAL}, "embedding", False),
    ],
)
def test_the_cluster_is_asked_only_where_this_machine_has_no_server_of_the_kind(
    detects: Detect,
    local: dict[str, Endpoint],
    kind: Kind,
    is_asked: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detects(**local)
    with open_client("", "", "", "", "", kind):
        assert ("is passed over" in capsys.readouterr().err) == is_asked


@pytest.mark.usefixtures("kubeconfig")
def test_who_forces_the_cloud_gets_it_without_a_cluster(
    detects: Detect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detects()
    monkeypatch.setenv("SAGE_FORCE_CLOUD_API", "true")
    with open_client("", "", "", "", ""):
        assert capsys.readouterr().err == ""


async def test_nothing_goes_to_a_provider_when_the_cluster_s_pool_cannot_be_reached(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_object(router={})
    paths = {f"{SPACE}/inferencepools": pools("rag"), f"{SPACE}/inferencepools/rag": pool}
    (home / ".kube").mkdir()
    cloud = await detect_async(PROVIDER)
    monkeypatch.setattr("sagepool.detection.detect", lambda _environ: cloud)

    def use() -> None:
        with open_client("", "", "", "", ""):
            pytest.fail("a provider was chosen")

    async with KubeStub(serves(paths)).running() as stub:
        stub.kubeconfig(home / ".kube" / "config")
        with pytest.raises(CommandError, match="the router of pool rag cannot be reached"):
            await asyncio.to_thread(use)
