"""A rollout that does not come to its end, before a real API server and its controllers."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crd_objects import group_object, pool_object
from kubectl import Kubectl
from operator_process import operator_process
from sagepool_crds import names

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

IMAGE = "sagepool.invalid/none:1"


def until(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def progressing(kubectl: Kubectl, what: str) -> tuple[str, str]:
    """Reason and message of what an object says of its progress."""
    conditions = kubectl.get(what).get("status", {}).get("conditions", ())
    found = [(c["reason"], c["message"]) for c in conditions if c["type"] == names.PROGRESSING]
    return found[0] if found else ("", "")


def apply_pool(kubectl: Kubectl, model: str) -> None:
    """A pool of one engine, whose image no registry has."""
    pool = pool_object(groups=[group_object(replicas=1, model={"name": model})])
    pool["metadata"]["namespace"] = kubectl.namespace
    kubectl.apply(pool)


def let_its_time_run_out(kubectl: Kubectl, deployment: str) -> None:
    """No test waits for the hour that it has: the Deployment controller judges by a second."""
    patch = json.dumps({"spec": {"progressDeadlineSeconds": 1}})
    kubectl.run("patch", deployment, "--type=merge", f"--patch={patch}")
    until(
        lambda: progressing(kubectl, deployment)[0] == "ProgressDeadlineExceeded",
        "the controller gives the rollout up",
    )


def test_a_rollout_that_gets_nowhere_is_told_until_the_group_is_another(
    kubeconfig: Path, namespace: Kubectl
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    place = (kubeconfig, namespace.namespace)

    with operator_process(*place, image=IMAGE, liveness_port=port):
        apply_pool(namespace, "one")
        until(lambda: progressing(namespace, "spool/rag")[0] == "Starting", "it is told to start")
        deadline_s = namespace.get("deployment/rag-chat")["spec"]["progressDeadlineSeconds"]
    let_its_time_run_out(namespace, "deployment/rag-chat")

    with operator_process(*place, image=IMAGE, liveness_port=port):
        until(lambda: progressing(namespace, "spool/rag")[0] == "Stuck", "it is told")
        said = progressing(namespace, "spool/rag")[1]
        assert said.startswith("chat: pods do not become ready in time")
        assert "startupProbe.failureThreshold in podTemplate" in said
        found = namespace.get("deployment/rag-chat")["spec"]["progressDeadlineSeconds"]
        assert found == deadline_s

        apply_pool(namespace, "other")
        until(lambda: progressing(namespace, "spool/rag")[0] == "RollingOut", "it goes on")
