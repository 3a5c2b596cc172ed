"""`sage doctor`: a verdict for each thing that can be wrong, and what to do about it."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crd_objects import instance_object, pool_object
from kube_stub import KubeStub, refuses, serves
from sage_command import PROGRAM, Sage, write_pool

pytestmark = pytest.mark.timeout(120)

SPACE = "/apis/sagepool.dev/v1alpha1/namespaces/team-a"

Findings = dict[str, tuple[str, str]]


def examine(sage: Sage, *words: str) -> tuple[int, Findings]:
    """The exit code, and verdict and message by check."""
    return read(sage.run("doctor", "-o", "json", *words))


def read(ended: Any) -> tuple[int, Findings]:
    assert ended.err == ""
    found = json.loads(ended.out)
    return ended.code, {f["check"]: (f["verdict"], f["message"]) for f in found}


async def examine_cluster(sage: Sage, stub: KubeStub, folder: Path) -> tuple[int, Findings]:
    config = stub.kubeconfig(folder / "kubeconfig")
    return await asyncio.to_thread(examine, sage, f"--kubeconfig={config}")


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    """The command of a person who has nothing yet: no pool, no cluster, no key."""
    return Sage(tmp_path / "home", {"HOME": str(tmp_path), "DASHSCOPE_API_KEY": ""})


def test_what_is_absent_is_not_wrong(sage: Sage) -> None:
    code, found = examine(sage)
    assert code == 0
    assert found["state"] == ("ok", f"{sage.home} can be written")
    assert found["sagepool-router"][0] == "ok"
    assert found["cluster"][0] == "absent"
    assert "set KUBECONFIG" in found["cluster"][1]


def test_a_program_that_is_installed_is_told_with_its_path(sage: Sage, tmp_path: Path) -> None:
    assert examine(sage)[1]["text-embeddings-router"][0] == "absent"
    program = tmp_path / "text-embeddings-router"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    there = Sage(sage.home, {**sage.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert examine(there)[1]["text-embeddings-router"] == ("ok", str(program))


def test_a_home_that_is_no_folder_is_wrong(sage: Sage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, found = examine(Sage(file / "home", sage.environment))
    assert code == 1
    assert found["state"] == (
        "wrong",
        f"{file}/home cannot be read and written: set SAGE_HOME to another folder",
    )


@pytest.mark.parametrize("shut", ["above", "home", "home/pools"])
def test_a_home_that_cannot_be_read_is_wrong_and_the_rest_is_examined(
    tmp_path: Path, shut: str
) -> None:
    home = tmp_path / "above" / "home"
    (home / "pools").mkdir(parents=True)
    environment = {"HOME": str(tmp_path / "above")} if shut == "above" else {}
    folder = {"above": tmp_path / "above", "home": home, "home/pools": home / "pools"}[shut]
    folder.chmod(0)
    # Permissions stop root only without these capabilities.
    stoppable = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    try:
        done = subprocess.run(
            [*(stoppable if os.geteuid() == 0 else ()), *PROGRAM, "doctor", "-o", "json"],
            env=Sage(home, environment).env(),
            capture_output=True,
            text=True,
            timeout=45,
        )
    finally:
        folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (1, "")
    found = {f["check"]: (f["verdict"], f["message"]) for f in json.loads(done.stdout)}
    if shut == "home/pools":
        assert found["pools here"] == ("wrong", f"{home}/pools cannot be read: permission denied")
    else:
        assert found["state"][0] == "wrong"
    assert found["cluster"][0] == "absent"
    assert found["clients"][0] in ("ok", "absent")


def test_a_pool_that_does_not_answer_is_wrong_and_says_why(sage: Sage, tmp_path: Path) -> None:
    with sage.pool(write_pool(tmp_path / "pool.yaml")):
        assert examine(sage)[1]["pool rag here"][0] == "ok"
        record = json.loads((sage.home / "pools" / "rag" / "record.json").read_text())
        os.kill(record["supervisor"]["pid"], 9)
        sage.until(lambda status: status["outcome"] == "killed")
        code, found = examine(sage)
    assert code == 1
    assert found["pool rag here"][0] == "wrong"
    assert "`sage inference stop rag` clears what is left" in found["pool rag here"][1]


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "verdict"),
    [(0o755, 0o644, "wrong"), (0o700, 0o644, "ok"), (0o755, 0o600, "ok")],
)
def test_a_secret_is_for_its_user_alone(
    sage: Sage, folder_mode: int, file_mode: int, verdict: str
) -> None:
    folder = sage.home / "secrets" / "keys"
    folder.mkdir(parents=True)
    for above in (sage.home, sage.home / "secrets"):
        above.chmod(0o755)
    (folder / "alice").write_text("sk-5f0c2a8e94d1b7360e9f")
    (folder / "alice").chmod(file_mode)
    folder.chmod(folder_mode)
    code, found = examine(sage)
    assert (code, found["secret keys"][0]) == (int(verdict == "wrong"), verdict)
    assert (f"chmod -R go= {folder}" in found["secret keys"][1]) == (verdict == "wrong")
    assert "sk-5f0c" not in str(found)


def test_a_secret_that_cannot_be_read_is_wrong(sage: Sage) -> None:
    folder = sage.home / "secrets" / "keys"
    folder.mkdir(parents=True)
    assert examine(sage)[1]["secret keys"][0] == "wrong"
    (folder / "alice").symlink_to("/none")
    code, found = examine(sage)
    assert (code, found["secret keys"][0]) == (1, "wrong")
    assert f"{folder / 'alice'} cannot be read" in found["secret keys"][1]


@pytest.mark.parametrize(("token", "verdict"), [("hf_abc", "ok"), ("", "absent")])
def test_the_hub_s_token_is_told_and_not_shown(sage: Sage, token: str, verdict: str) -> None:
    code, found = examine(Sage(sage.home, {**sage.environment, "HF_TOKEN": token}))
    assert (code, found["HF_TOKEN"][0]) == (0, verdict)
    assert "hf_abc" not in str(found)


async def test_a_cluster_without_sagepool_is_wrong(sage: Sage, tmp_path: Path) -> None:
    async with KubeStub(serves({})).running() as stub:
        code, found = await examine_cluster(sage, stub, tmp_path)
    assert code == 1
    assert found["cluster"][0] == "wrong"
    assert "install sagepool there first (helm install sagepool)" in found["cluster"][1]


async def test_a_cluster_that_lets_nobody_in_is_wrong(sage: Sage, tmp_path: Path) -> None:
    async with KubeStub(refuses(401, "Unauthorized", "Unauthorized")).running() as stub:
        code, found = await examine_cluster(sage, stub, tmp_path)
    assert (code, found["cluster"][0]) == (1, "wrong")
    assert "Unauthorized" in found["cluster"][1]


def test_a_kubeconfig_that_the_environment_names_and_is_not_there_is_wrong(sage: Sage) -> None:
    named = Sage(sage.home, {**sage.environment, "KUBECONFIG": "/none"})
    code, found = examine(named)
    assert (code, found["cluster"]) == (1, ("wrong", "there is no kubeconfig at /none"))


async def test_each_pool_of_the_cluster_has_its_verdict(sage: Sage, tmp_path: Path) -> None:
    unseen, broken = pool_object(), pool_object()
    unseen["metadata"]["name"] = "unseen"
    broken["metadata"]["name"] = "broken"
    why = {"reason": "ModelMissing", "message": "qwen is not on the hub: mend uri"}
    broken["status"] = {"conditions": [{"type": "Ready", "status": "False", **why}]}
    there = {
        f"{SPACE}/inferencepools": {"items": [unseen, broken]},
        f"{SPACE}/inferenceinstances": {"items": []},
    }
    async with KubeStub(serves(there)).running() as stub:
        code, found = await examine_cluster(sage, stub, tmp_path)
    assert code == 1
    assert found["cluster"] == ("ok", "answers and has sagepool; 2 pools in team-a")
    assert found["pool unseen"][0] == "wrong"
    assert "is sagepool's operator running?" in found["pool unseen"][1]
    assert found["pool broken"] == ("wrong", "ModelMissing: qwen is not on the hub: mend uri")


async def test_a_cluster_that_lacks_the_kind_of_instances_is_wrong(
    sage: Sage, tmp_path: Path
) -> None:
    there = {f"{SPACE}/inferencepools": {"items": []}}
    async with KubeStub(serves(there)).running() as stub:
        code, found = await examine_cluster(sage, stub, tmp_path)
    assert (code, found["cluster"][0]) == (1, "wrong")
    assert "has no inferenceinstances" in found["cluster"][1]


def instances(pool: str, *statuses: dict[str, str]) -> list[dict[str, Any]]:
    """Instances of a pool with these statuses, numbered."""
    made = [instance_object() for _ in statuses]
    for number, (obj, status) in enumerate(zip(made, statuses, strict=True)):
        obj["metadata"]["name"] = f"{pool}-{number}"
        obj["spec"]["poolRef"] = pool
        obj["status"] = status
    return made


async def test_instances_that_are_not_ready_are_counted_with_the_first_reasons(
    sage: Sage, tmp_path: Path
) -> None:
    good, bad = pool_object(), pool_object()
    good["metadata"]["name"] = "good"
    bad["metadata"]["name"] = "bad"
    ready, failed = {"phase": "Ready"}, {"phase": "Failed", "message": "out of memory"}
    listed = [
        *instances("good", ready, {"phase": "Draining"}),
        *instances("bad", ready, failed, {"phase": "Loading"}, {}, failed),
    ]
    there = {
        f"{SPACE}/inferencepools": {"items": [good, bad]},
        f"{SPACE}/inferenceinstances": {"items": listed},
    }
    async with KubeStub(serves(there)).running() as stub:
        _, found = await examine_cluster(sage, stub, tmp_path)
    assert found["instances of pool good"] == ("ok", "none of 2 waits or has failed")
    assert found["instances of pool bad"] == (
        "wrong",
        "4 of 5 are not ready: bad-1: Failed, out of memory; bad-2: Loading; bad-3: Pending; ...",
    )


async def test_a_router_that_cannot_be_reached_is_wrong(sage: Sage, tmp_path: Path) -> None:
    pool = pool_object()
    pool["spec"]["router"] = {}
    pool["status"] = {
        "endpoint": "http://rag-router/v1",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}],
    }
    there = {
        f"{SPACE}/inferencepools": {"items": [pool]},
        f"{SPACE}/inferencepools/rag": pool,
        f"{SPACE}/inferenceinstances": {"items": []},
    }
    async with KubeStub(serves(there)).running() as stub:
        code, found = await examine_cluster(sage, stub, tmp_path)
    assert code == 1
    assert found["pool rag"] == ("ok", "http://rag-router/v1")
    assert found["router of pool rag"][0] == "wrong"
    assert "the router of pool rag cannot be reached" in found["router of pool rag"][1]


def test_a_variable_that_is_wrong_is_what_clients_would_meet(sage: Sage) -> None:
    odd = Sage(sage.home, {**sage.environment, "SAGE_UNIFIED_BASE_URL": "router:8000"})
    code, found = examine(odd)
    assert (code, found["clients"][0]) == (1, "wrong")
    assert "SAGE_UNIFIED_BASE_URL must be an http or https address" in found["clients"][1]


def test_a_server_that_is_named_is_what_clients_take(sage: Sage) -> None:
    named = Sage(sage.home, {**sage.environment, "SAGE_UNIFIED_BASE_URL": "http://router:8000"})
    code, found = examine(named)
    assert (code, found["clients"][0]) == (0, "ok")
    assert "llm: http://router:8000/v1 (SAGE_UNIFIED_BASE_URL)" in found["clients"][1]
