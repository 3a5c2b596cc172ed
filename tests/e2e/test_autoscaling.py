"""Engines come and go with what is asked of them, down to none, and no request is lost."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from e2e_endpoint import reach_router
from e2e_pool import CHAT_MODEL, Pool, build_chat_group, build_pool
from sagepool_crds import names

CYCLES = int(os.environ.get("SAGEPOOL_TEST_ZERO_CYCLES", "3"))
"""To zero and back; a hundred take half an hour."""
ANSWER_LIMIT_S = 90.0
SLOW = {"type": "simulator", "args": ["--itl-ms=100", "--batch-slowdown=0"]}


def scaled_pool(routers: int = 1, **scaling: object) -> dict[str, object]:
    """A pool with one scaled group for chat."""
    group = build_chat_group(engine=SLOW, scaling=scaling)
    del group["replicas"]
    return build_pool(group, routers=routers)


def replicas(pool: Pool) -> int:
    return int(pool.deployment("chat")["spec"]["replicas"])


def notes(pool: Pool) -> list[str]:
    """What the events say about scaling."""
    events = pool.kubectl.get("events.events.k8s.io")["items"]
    return [event["note"] for event in events if event["reason"] == "Scaled"]


def ask(threads: ThreadPoolExecutor, url: str, tokens: int) -> Future[httpx.Response]:
    """A chat answer of so many tokens, on a connection of its own and never asked for twice."""
    body = {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": tokens,
    }
    return threads.submit(
        httpx.post, f"{url}/v1/chat/completions", json=body, timeout=ANSWER_LIMIT_S
    )


def outcome(answer: Future[httpx.Response]) -> tuple[int, str]:
    """The status, and what was said of it where it is an error."""
    found = answer.result(ANSWER_LIMIT_S)
    return (found.status_code, "" if found.status_code == 200 else found.text)


def instance(answer: Future[httpx.Response]) -> str:
    """Who has answered."""
    return answer.result(ANSWER_LIMIT_S).headers[names.INSTANCE_HEADER]


def ask_through_the_end(threads: ThreadPoolExecutor, url: str, last: str) -> None:
    """Ask without a pause while the last engine is on its way out, until another one answers."""
    for _ in range(1000):
        answer = ask(threads, url, tokens=1)
        assert outcome(answer) == (200, "")
        if instance(answer) != last:
            return
    pytest.fail(f"{last} goes on answering")


def test_engines_follow_the_load_of_all_routers_up_and_down(own_pool: Pool) -> None:
    own_pool.apply(
        scaled_pool(
            2,
            minReplicas=1,
            maxReplicas=3,
            target={"inFlight": 4},
            scaleDownAfterSeconds=10,
        )
    )
    own_pool.wait_ready()
    assert replicas(own_pool) == 1
    with reach_router(own_pool.kubectl, own_pool.name) as url, ThreadPoolExecutor(32) as threads:
        answers = [ask(threads, url, tokens=200) for _ in range(12)]
        own_pool.wait(lambda: replicas(own_pool) == 3, "no engines are added", limit_s=20)
        assert [outcome(answer) for answer in answers] == [(200, "")] * 12
        own_pool.wait(lambda: replicas(own_pool) == 1, "engines do not go", limit_s=60)
        assert outcome(ask(threads, url, tokens=2)) == (200, "")
    own_pool.wait_ready()
    told = " ".join(notes(own_pool))
    assert "-> 3: 12 requests in flight or waiting, 4 an engine" in told
    assert "no more were needed for 10 s" in told


@pytest.mark.timeout(120 + 60 * CYCLES)
def test_a_group_goes_to_zero_and_comes_back_and_no_request_is_lost(own_pool: Pool) -> None:
    own_pool.apply(
        scaled_pool(
            2,
            minReplicas=0,
            maxReplicas=2,
            target={"inFlight": 4},
            idleToZeroSeconds=2,
            holdSeconds=60,
        )
    )
    own_pool.wait_ready()
    assert replicas(own_pool) == 0
    with ExitStack() as stack:
        url = stack.enter_context(reach_router(own_pool.kubectl, own_pool.name))
        threads = stack.enter_context(ThreadPoolExecutor(32))
        for cycle in range(CYCLES):
            answers = [ask(threads, url, tokens=2) for _ in range(3)]
            assert [outcome(answer) for answer in answers] == [(200, "")] * 3, f"cycle {cycle}"
            own_pool.wait(lambda: replicas(own_pool) == 0, "the last engine does not go")
            if cycle % 2:
                own_pool.wait(lambda: not own_pool.engines("chat"), "its pod stays", limit_s=90)
            else:
                ask_through_the_end(threads, url, last=instance(answers[0]))
                own_pool.wait(lambda: replicas(own_pool) == 0, "the last engine does not go")
    own_pool.wait(lambda: not own_pool.engines("chat"), "its pod stays", limit_s=90)
    assert own_pool.is_ready()


def test_a_group_that_holds_nothing_refuses_and_comes_up_all_the_same(own_pool: Pool) -> None:
    own_pool.apply(scaled_pool(minReplicas=0, maxReplicas=1, target={"inFlight": 4}, holdSeconds=0))
    own_pool.wait_ready()
    with reach_router(own_pool.kubectl, own_pool.name) as url, ThreadPoolExecutor(1) as threads:
        refused = ask(threads, url, tokens=2).result(ANSWER_LIMIT_S)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_instance")
        own_pool.wait(lambda: replicas(own_pool) == 1, "no engine comes up", limit_s=20)
        own_pool.wait_ready()
        assert outcome(ask(threads, url, tokens=2)) == (200, "")


def test_what_others_scale_is_left_to_them(own_pool: Pool) -> None:
    own_pool.apply(scaled_pool(mode="external", holdSeconds=60))
    own_pool.wait_ready()
    own_pool.kubectl.run("scale", "deployment/rag-chat", "--replicas=2")
    own_pool.wait(lambda: own_pool.get()["status"]["ready"] == "2/2", "two engines do not run")
    own_pool.kubectl.run("scale", "deployment/rag-chat", "--replicas=0")
    own_pool.wait(lambda: not own_pool.engines("chat"), "the engines stay", limit_s=90)
    with reach_router(own_pool.kubectl, own_pool.name) as url, ThreadPoolExecutor(1) as threads:
        waiting = ask(threads, url, tokens=2)
        own_pool.kubectl.run("scale", "deployment/rag-chat", "--replicas=1")
        assert outcome(waiting) == (200, "")
    own_pool.wait_ready()
    assert replicas(own_pool) == 1
