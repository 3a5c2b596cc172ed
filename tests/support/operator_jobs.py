"""What the Job controller and the kubelet do with the Jobs of a pool's cache, step by step."""

from typing import Any

from operator_world import KEY, World, set_pod_status
from sagepool_kube.api import JOBS, PODS

Json = dict[str, Any]


def start_download(world: World, job: Json, suffix: str = "x", **status: Any) -> Json:
    """The Job's pod is made and runs."""
    meta, spec = job["metadata"], job["spec"]["template"]
    name = f"{meta['name']}-{suffix}"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    pod = world.kube.put(
        PODS,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": KEY.namespace,
                "labels": spec["metadata"]["labels"],
                "annotations": {"of": meta["uid"]},
                "ownerReferences": [{**owner, "controller": True}],
            },
            "spec": spec["spec"],
        },
    )
    running = {"name": "download", "restartCount": 0, "state": {"running": {}}}
    set_pod_status(
        world.kube, pod, **{"podIP": "10.1.9.9", "containerStatuses": [running], **status}
    )
    return world.kube.read(PODS, KEY.namespace, name)


def fail_download(world: World, pod: Json, message: str) -> None:
    """The pod's container has ended with these words, and is to be started again."""
    ended = {"exitCode": 1, "reason": "Error", "message": message}
    container = {
        "name": "download",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    set_pod_status(world.kube, pod, containerStatuses=[container])


def finish(world: World, job: Json) -> None:
    """The Job is complete."""

    def change(live: Json) -> None:
        live["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    world.kube.edit(JOBS, KEY.namespace, job["metadata"]["name"], change)


def end_pod(world: World, pod: Json, message: str) -> None:
    """The pod's container has ended well, with these last words."""
    ended = {"exitCode": 0, "reason": "Completed", "message": message}
    container = {"name": "download", "restartCount": 0, "state": {"terminated": ended}}
    set_pod_status(world.kube, pod, phase="Succeeded", containerStatuses=[container])
