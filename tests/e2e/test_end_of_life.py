"""Suspending, deleting, uninstalling: engines go, and nothing is stuck."""

import httpx
import pytest
from openai import InternalServerError, OpenAI

from e2e_installation import Installation
from e2e_pool import CHAT_MODEL, Pool, build_chat_group, build_pool
from e2e_waiting import wait_until
from kubectl import Kubectl
from sagepool_crds import names

CHILD_KINDS = (
    "deployment,replicaset,pod,service,serviceaccount,role,rolebinding,poddisruptionbudget,sinst"
)


def ask(url: str) -> str | None:
    openai = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = openai.chat.completions.create(
        model=CHAT_MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=4
    )
    return answer.choices[0].message.content


def left_of_pool(kubectl: Kubectl) -> list[str]:
    """What the pool's children have left, by kind and name."""
    labelled = kubectl.get(CHILD_KINDS, "-l", f"{names.POOL_LABEL}=rag")["items"]
    instances = kubectl.get("sinst")["items"]
    return [f"{o['kind']}/{o['metadata']['name']}" for o in (*labelled, *instances)]


def left_of_release(installation: Installation) -> list[str]:
    """What the release has left, beside the kinds themselves, which are kept on purpose."""
    kinds = "all,sa,role,rolebinding,networkpolicy,clusterrole,clusterrolebinding"
    selector = "app.kubernetes.io/part-of=sagepool"
    return installation.kubectl.run("get", kinds, "-l", selector, "-o", "name").stdout.split()


def wait_gone(kubectl: Kubectl) -> None:
    wait_until(
        lambda: not left_of_pool(kubectl),
        "something of the pool is left",
        state=lambda: left_of_pool(kubectl),
    )


@pytest.fixture
def small_pool(own_pool: Pool) -> Pool:
    own_pool.apply(build_pool(build_chat_group()))
    own_pool.wait_ready()
    return own_pool


def test_a_suspended_pool_keeps_its_address_and_says_why_it_does_not_answer(
    pool: Pool, url: str
) -> None:
    pool.change({"op": "add", "path": "/spec/suspend", "value": True})
    pool.wait(lambda: not pool.engines(), "the engines do not end")
    with pytest.raises(InternalServerError, match="suspend") as refused:
        ask(url)
    assert refused.value.status_code == 503
    assert "suspend" in refused.value.response.headers[names.REASON_HEADER]
    assert int(refused.value.response.headers["retry-after"]) > 0
    assert httpx.get(f"{url}/v1/models").status_code == 200

    pool.change({"op": "replace", "path": "/spec/suspend", "value": False})
    pool.wait_ready()
    assert ask(url)


def test_deleting_a_pool_deletes_all_that_was_made_from_it(small_pool: Pool) -> None:
    small_pool.kubectl.run("delete", "spool", "rag")
    wait_gone(small_pool.kubectl)


def test_deleting_a_pool_works_while_the_operator_is_away(
    small_pool: Pool, installation: Installation
) -> None:
    installation.scale_operator(0)
    try:
        small_pool.kubectl.run("delete", "spool", "rag", timeout_s=20)
        wait_gone(small_pool.kubectl)
    finally:
        installation.scale_operator()


def test_uninstalling_leaves_pools_serving_and_nothing_stuck(
    pool: Pool, url: str, installation: Installation
) -> None:
    try:
        installation.uninstall()
        assert ask(url)
        wait_until(lambda: not left_of_release(installation), "objects of the release are left")
        pool.kubectl.run("delete", "spool", "rag", timeout_s=20)
        wait_gone(pool.kubectl)
    finally:
        installation.install()
