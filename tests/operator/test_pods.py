"""Reading a pod's status."""

from typing import Any

import pytest

from sagepool_crds import names
from sagepool_operator.pods import Exit, Waiting, is_controlled_by, read_pod

POD: dict[str, Any] = {
    "metadata": {"name": "p", "uid": "u", "labels": {"group": "chat"}},
    "spec": {"containers": [{"name": "engine"}, {"name": "injected"}]},
}


def test_pod_without_status_has_nothing_yet() -> None:
    pod = read_pod(POD, "group")
    assert (pod.name, pod.uid, pod.group, pod.ip) == ("p", "u", "chat", "")
    assert not pod.is_running
    assert not pod.is_deleting


def test_only_the_first_container_counts() -> None:
    status = {
        "podIP": "10.0.0.1",
        "containerStatuses": [
            {"name": "injected", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            {"name": "engine", "restartCount": 2, "state": {"running": {}}},
        ],
    }
    pod = read_pod({**POD, "status": status}, "group")
    assert pod.is_running
    assert pod.waiting is None
    assert (pod.ip, pod.restarts) == ("10.0.0.1", 2)


def test_waiting_and_last_exit_are_in_the_kubelets_words() -> None:
    state = {
        "name": "engine",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    }
    pod = read_pod({**POD, "status": {"containerStatuses": [state]}}, "group")
    assert pod.waiting == Waiting("CrashLoopBackOff", "back-off")
    assert pod.last_exit == Exit(3, "Error", "")


def test_init_container_that_keeps_the_engine_from_starting_speaks_for_the_pod() -> None:
    engine = {"name": "engine", "state": {"waiting": {"reason": "PodInitializing"}}}
    started = {"name": "mesh", "state": {"running": {}}}
    pulled = {"name": "sidecar", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
    status = {"containerStatuses": [engine], "initContainerStatuses": [started, pulled]}
    pod = read_pod({**POD, "status": status}, "group")
    assert (pod.blocked_by, pod.waiting) == ("sidecar", Waiting("ErrImagePull", "no"))


def test_init_container_that_fails_while_the_engine_runs_does_not_speak_for_the_pod() -> None:
    engine = {"name": "engine", "state": {"running": {}}}
    crashed = {"name": "sidecar", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status = {"containerStatuses": [engine], "initContainerStatuses": [crashed]}
    pod = read_pod({**POD, "status": status}, "group")
    assert pod.is_running
    assert (pod.blocked_by, pod.waiting) == ("", None)


def test_evicted_pod_has_failed() -> None:
    status = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    assert read_pod({**POD, "status": status}, "group").failure == "low on memory"


def test_scheduler_is_quoted() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "no nodes"}
    pod = read_pod({**POD, "status": {"conditions": [condition]}}, "group")
    assert pod.unschedulable == "no nodes"


def test_only_a_controller_makes_a_pod() -> None:
    owner = {"kind": "ReplicaSet", "uid": "r"}
    pod = {"metadata": {"ownerReferences": [owner]}}
    assert not is_controlled_by(pod, "ReplicaSet")
    pod = {"metadata": {"ownerReferences": [{**owner, "controller": True}]}}
    assert is_controlled_by(pod, "ReplicaSet")
    assert not is_controlled_by({"metadata": {}}, "ReplicaSet")


def test_models_that_it_was_built_with_are_read() -> None:
    notes = {
        names.MODEL_ANNOTATION: "m",
        names.EMBEDDING_MODEL_ANNOTATION: "e",
        names.EMBEDDING_SOURCE_ANNOTATION: "hf://o/e@v2",
    }
    pod = read_pod({**POD, "metadata": {**POD["metadata"], "annotations": notes}}, "group")
    assert (pod.model, pod.embedding_model) == ("m", "e")
    assert pod.embedding_source == "hf://o/e@v2"
    assert read_pod(POD, "group").embedding_model == ""


@pytest.mark.parametrize(
    ("reason", "condition", "expected"),
    [
        ("ContainerCreating", {"type": "PodReadyToStartContainers", "status": "False"}, True),
        # Its volumes are there: what takes time is the image.
        ("ContainerCreating", {"type": "PodReadyToStartContainers", "status": "True"}, False),
        ("ErrImagePull", {"type": "PodReadyToStartContainers", "status": "False"}, False),
        ("ContainerCreating", {"type": "Ready", "status": "False"}, False),
    ],
)
def test_waiting_for_volumes_is_told_from_pulling_the_image(
    reason: str, condition: dict[str, Any], expected: bool
) -> None:
    state = {"name": "engine", "state": {"waiting": {"reason": reason}}}
    status = {"containerStatuses": [state], "conditions": [condition]}
    assert read_pod({**POD, "status": status}, "group").is_mounting == expected
