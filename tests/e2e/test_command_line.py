"""`sage chat` and `sage embed` with a pool of the cluster, from outside of it."""

import base64
import json
from pathlib import Path

import pytest

from e2e_pool import CHAT_MODEL, Pool, build_pool
from e2e_waiting import wait_until
from sage_command import Sage, terminal
from sagepool_crds import names

KEY = "sk-5f0c2a8e94d1b7360e9f"


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    """The command with an empty home."""
    return Sage(tmp_path / "home")


def place_of(pool: Pool) -> tuple[str, ...]:
    """The options that name the pool."""
    kubectl = pool.kubectl
    return (
        f"--pool={pool.name}",
        f"--kubeconfig={kubectl.kubeconfig}",
        f"--namespace={kubectl.namespace}",
    )


def checks(sage: Sage, pool: Pool) -> dict[str, dict[str, str]]:
    """What `sage doctor` finds, by check."""
    told = sage.run("doctor", "--output=json", *place_of(pool)[1:]).out
    return {finding["check"]: finding for finding in json.loads(told)}


def test_chat_and_embed_reach_a_pool_of_the_cluster(pool: Pool, sage: Sage) -> None:
    answer = sage.run("chat", "hello", "--max-tokens=3", f"--model={CHAT_MODEL}", *place_of(pool))
    assert (answer.code, answer.err, len(answer.out.split())) == (0, "", 3)
    texts = [f"text {number}" for number in range(100)]
    vectors = sage.run("embed", "--batch=10", *place_of(pool), stdin="\n".join(texts))
    assert (vectors.code, vectors.err) == (0, "")
    assert [json.loads(line)["text"] for line in vectors.out.splitlines()] == texts
    found = checks(sage, pool)
    assert found["router of pool rag"]["verdict"] == "ok"
    assert CHAT_MODEL in found["router of pool rag"]["message"]


def test_a_conversation_outlives_the_router_s_pod(own_pool: Pool, sage: Sage) -> None:
    own_pool.apply(build_pool())
    own_pool.wait_ready()
    routers = f"{names.POOL_LABEL}={own_pool.name},{names.COMPONENT_LABEL}=router"
    kubectl = own_pool.kubectl

    def ready() -> list[str]:
        pods = kubectl.get("pods", "-l", routers)["items"]
        return [
            pod["metadata"]["name"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and {"type": "Ready", "status": "True"}.items()
            <= next(c for c in pod["status"]["conditions"] if c["type"] == "Ready").items()
        ]

    with terminal(sage, "chat", "--max-tokens=2", *place_of(own_pool)) as screen:
        screen.read_until("> ")
        screen.type("hello\n")
        screen.text = ""
        screen.read_until("> ")
        (before,) = ready()
        kubectl.run("delete", "pod", before, "--grace-period=1")
        wait_until(lambda: before not in ready() and len(ready()) == 1, "no new router", 60)
        screen.text = ""
        screen.type("again\n")
        screen.read_until("> ")
        assert "sage:" not in screen.text
        screen.type("/quit\n")
        assert screen.process.wait(20) == 0


def test_a_missing_key_names_the_secret_that_it_is_in(own_pool: Pool, sage: Sage) -> None:
    space = own_pool.kubectl.namespace
    own_pool.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "rag-keys"},
            "data": {"alice": base64.b64encode(KEY.encode()).decode()},
        }
    )
    manifest = build_pool()
    manifest["spec"]["router"]["auth"] = {"apiKeysSecret": "rag-keys"}
    own_pool.apply(manifest)
    own_pool.wait_ready()
    there = place_of(own_pool)
    assert checks(sage, own_pool)["router of pool rag"]["verdict"] == "absent"
    without = sage.run("chat", "hello", *there)
    assert (without.code, without.out) == (2, "")
    assert without.err == (
        "sage: the router of pool rag wants an API key: give one of Secret rag-keys of namespace "
        f"{space} with --api-key or SAGE_UNIFIED_API_KEY\n"
    )
    wrong = sage.run("embed", "--api-key=sk-wrong", *there, stdin="text")
    assert (wrong.code, "does not take this API key: give one of Secret" in wrong.err) == (2, True)
    assert sage.run("chat", "hello", f"--api-key={KEY}", *there).code == 0
    with_variable = Sage(sage.home, {"SAGE_UNIFIED_API_KEY": KEY})
    assert with_variable.run("embed", *there, stdin="text").code == 0
