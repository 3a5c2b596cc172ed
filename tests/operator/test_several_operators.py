"""Two operator processes and a real API server: who works, and how soon the other one does."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from crd_objects import group_object, pool_object
from kubectl import Kubectl
from operator_process import OperatorProcess, operator_process
from stalling_proxy import stalling_proxy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

IMAGE = "sagepool.invalid/none:1"
LEADS, NO_LONGER = "this operator leads", "this operator leads no longer"
AFTER_A_STOP_S = 1.0
AFTER_A_DEATH_S = 15.0
HANG_S = 20.0


def seconds_until(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, f"not in time: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def an_operator(kubeconfig: Path, namespace: str) -> Iterator[OperatorProcess]:
    """One of several, that follows the API server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    lease = f"{namespace}/operator"
    with operator_process(
        kubeconfig, namespace, image=IMAGE, liveness_port=port, lease=lease
    ) as running:
        seconds_until(lambda: bool(running.said("following all pools")), "it has started")
        yield running


def leads(operator: OperatorProcess) -> bool:
    return len(operator.said(LEADS)) > len(operator.said(NO_LONGER))


def leader_of(*operators: OperatorProcess) -> OperatorProcess:
    """The one that leads, once there is one."""
    seconds_until(lambda: any(map(leads, operators)), "one of them leads")
    (found,) = [one for one in operators if leads(one)]
    return found


def apply_pool(namespace: Kubectl, replicas: int) -> None:
    """A pool whose routers never start: what is looked at is who writes."""
    pool: dict[str, Any] = pool_object(
        groups=[group_object(replicas=0)], router={"replicas": replicas}
    )
    pool["metadata"]["namespace"] = namespace.namespace
    namespace.apply(pool)


def is_settled(namespace: Kubectl) -> bool:
    """Whether all has been written: the status comes last."""
    conditions = namespace.get("spool/rag").get("status", {}).get("conditions", ())
    return any(c["type"] == "RouterReady" and "ImagePull" in c["reason"] for c in conditions)


def router_replicas(namespace: Kubectl) -> int:
    found = namespace.get("deployment")["items"]
    return next((d["spec"]["replicas"] for d in found if d["metadata"]["name"] == "rag-router"), 0)


def spans(operator: OperatorProcess) -> list[tuple[datetime, datetime]]:
    """From when to when it has led."""
    ends = [*operator.said(NO_LONGER), datetime.max.replace(tzinfo=UTC)]
    return list(zip(operator.said(LEADS), ends, strict=False))


def assert_one_at_a_time(*operators: OperatorProcess) -> None:
    """No two led at once, and what one has written it has written while it led."""
    for one, other in pairwise(sorted(span for o in operators for span in spans(o))):
        assert one[1] <= other[0]
    for operator in operators:
        for at in operator.said("applied"):
            assert any(begin <= at <= end for begin, end in spans(operator))


@contextmanager
def a_pair(
    kubeconfig: Path, namespace: Kubectl
) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """The one that leads, which has made a pool, and the one that waits."""
    place = (kubeconfig, namespace.namespace)
    with an_operator(*place) as one, an_operator(*place) as other:
        first = leader_of(one, other)
        apply_pool(namespace, 1)
        seconds_until(lambda: is_settled(namespace), "the pool is made and told of")
        yield first, other if first is one else one


def test_another_operator_goes_on_soon_after_a_death_and_at_once_after_a_stop(
    kubeconfig: Path, namespace: Kubectl
) -> None:
    with a_pair(kubeconfig, namespace) as (first, second):
        assert second.applied() == []

        first.kill()
        took_s = seconds_until(lambda: leads(second), "the second leads")
        assert took_s < AFTER_A_DEATH_S
        apply_pool(namespace, 2)
        seconds_until(lambda: router_replicas(namespace) == 2, "the second works")
        # It has found the pool as it was, and written what has changed.
        assert second.applied() == [f"Deployment {namespace.namespace}/rag-router"]

        with an_operator(kubeconfig, namespace.namespace) as third:
            assert second.stop() == 0
            seconds_until(lambda: leads(third), "the third leads")
            took = third.said(LEADS)[0] - second.said(NO_LONGER)[0]
            assert took.total_seconds() < AFTER_A_STOP_S
            apply_pool(namespace, 1)
            seconds_until(lambda: router_replicas(namespace) == 1, "the third works")
            assert_one_at_a_time(second, third)


def test_nobody_works_while_the_api_server_hangs_and_one_does_afterwards(
    kubeconfig: Path, namespace: Kubectl, tmp_path: Path
) -> None:
    through = tmp_path / "kubeconfig"
    with (
        stalling_proxy(kubeconfig, through) as proxy,
        a_pair(through, namespace) as (one, other),
    ):
        proxy.stall()
        apply_pool(namespace, 2)  # it reaches the API server directly
        gone_s = seconds_until(lambda: not leads(one), "the leader stops", HANG_S)
        # The time that the API server is away is what the promise is about.
        time.sleep(HANG_S - gone_s)
        assert not leads(one)
        assert not leads(other)
        assert router_replicas(namespace) == 1
        proxy.flow()
        assert seconds_until(lambda: leads(one) or leads(other), "one leads") < AFTER_A_DEATH_S
        seconds_until(lambda: router_replicas(namespace) == 2, "it works")
        assert_one_at_a_time(one, other)


def test_a_leader_that_was_stopped_for_a_while_writes_nothing_when_it_goes_on(
    kubeconfig: Path, namespace: Kubectl
) -> None:
    with a_pair(kubeconfig, namespace) as (first, second):
        before = first.applied()
        first.process.send_signal(signal.SIGSTOP)
        seconds_until(lambda: leads(second), "the second leads", AFTER_A_DEATH_S)
        apply_pool(namespace, 2)
        seconds_until(lambda: router_replicas(namespace) == 2, "the second works")
        first.process.send_signal(signal.SIGCONT)
        seconds_until(lambda: not leads(first), "the first sees that it leads no longer")
        apply_pool(namespace, 3)
        seconds_until(lambda: router_replicas(namespace) == 3, "the second goes on")
        assert first.applied() == before
        # Whose turn it is, is told by the Lease.
        lease = namespace.get("lease/operator")["spec"]
        assert lease["leaseTransitions"] == 1
