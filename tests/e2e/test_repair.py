"""What the operator keeps as it should be, whoever changes it and whenever it is killed."""

import json
from typing import Any

import pytest

from e2e_installation import Installation
from e2e_pool import CHAT_MODEL, Pool, build_chat_group, build_pool
from e2e_waiting import wait_until


def patch_deployment(pool: Pool, group: str, *operations: dict[str, Any]) -> None:
    pool.kubectl.run(
        "patch", "deployment", f"rag-{group}", "--type=json", f"--patch={json.dumps(operations)}"
    )


def read_template(pool: Pool) -> dict[str, Any]:
    container = pool.deployment("chat")["spec"]["template"]["spec"]["containers"][0]
    found: dict[str, Any] = container
    return found


def kill_operator(installation: Installation) -> None:
    """The one that works, without a moment to tidy up: the other one goes on."""
    victim = installation.leader()
    installation.kubectl.run("delete", "pod", victim, "--grace-period=0", "--force")
    wait_until(
        lambda: installation.leader() not in ("", victim),
        "no other operator goes on",
        state=installation.leader,
    )


@pytest.fixture
def chat_pool(own_pool: Pool) -> Pool:
    engine = {"type": "simulator", "env": [{"name": "COLOUR", "value": "blue"}]}
    own_pool.apply(build_pool(build_chat_group(engine=engine)))
    own_pool.wait_ready()
    return own_pool


def test_fields_of_ours_come_back_and_additions_of_others_stay(chat_pool: Pool) -> None:
    pool = chat_pool
    ours = read_template(pool)
    container = "/spec/template/spec/containers/0"
    patch_deployment(
        pool,
        "chat",
        {"op": "replace", "path": "/spec/replicas", "value": 0},
        {"op": "replace", "path": f"{container}/image", "value": "elsewhere.invalid/other:1"},
        {
            "op": "replace",
            "path": f"{container}/env",
            "value": [{"name": "COLOUR", "value": "red"}],
        },
        {"op": "add", "path": "/metadata/annotations/example.com~1team", "value": "search"},
    )
    pool.kubectl.run("set", "env", "deployment/rag-chat", "ADDED_BY=somebody")

    def is_restored() -> bool:
        deployment, template = pool.deployment("chat"), read_template(pool)
        env = {entry["name"]: entry.get("value") for entry in template["env"]}
        return (
            deployment["spec"]["replicas"] == 1
            and template["image"] == ours["image"]
            and env.get("COLOUR") == "blue"
        )

    pool.wait(is_restored, "the Deployment does not come back")
    pool.wait_ready()
    added = {"name": "ADDED_BY", "value": "somebody"}
    assert added in read_template(pool)["env"]
    assert pool.deployment("chat")["metadata"]["annotations"]["example.com/team"] == "search"


def test_deleted_children_come_back(chat_pool: Pool) -> None:
    kinds = ("deployment/rag-router", "service/rag-router", "role/rag-router")
    chat_pool.kubectl.run("delete", *kinds)
    chat_pool.wait(
        lambda: chat_pool.kubectl.run("get", *kinds, check=False).returncode == 0,
        "what was deleted does not come back",
    )
    chat_pool.wait_ready()


def test_a_group_that_leaves_the_pool_takes_its_engines_along(own_pool: Pool) -> None:
    own_pool.apply(build_pool())
    own_pool.wait(lambda: own_pool.engines("embed"), "no engine comes")
    own_pool.change({"op": "remove", "path": "/spec/groups/1"})
    own_pool.wait(lambda: not own_pool.engines("embed"), "the engines stay")
    own_pool.wait_ready()
    assert [model["name"] for model in own_pool.get()["status"]["models"]] == [CHAT_MODEL]


def test_an_operator_killed_amid_changes_still_brings_them_about(
    pool: Pool, installation: Installation
) -> None:
    env = [{"name": "ROUND", "value": "killed"}]
    for replicas in (3, 1, 2):
        pool.scale(0, replicas)
        pool.change({"op": "add", "path": "/spec/groups/1/engine/env", "value": env})
        kill_operator(installation)
    pool.wait_ready()
    assert len(pool.engines("chat")) == 2
    (engine,) = pool.engines("embed").values()
    assert env[0] in engine["spec"]["containers"][0]["env"]
