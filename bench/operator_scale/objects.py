"""What is written to the API server: nodes, pools, and Deployments like a pool's. Pure."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import DEPLOYMENTS, LEASES, Kind, Object
from sagepool_operator.autoscaling.replicas import Replicas
from sagepool_operator.builders import podspec
from sagepool_operator.config import Images
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.planner import wanted_children

NODES: Final = Kind("", "v1", "Node", "nodes", namespaced=False)
NAMESPACES: Final = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
NODE_LEASES: Final = "kube-node-lease"
MODEL: Final = "m"
GROUP: Final = "chat"
ENGINE_PORT: Final = 8000
IMAGES: Final = Images(own="sagepool:bench")

Json = dict[str, Any]


def namespace(name: str) -> Json:
    """A namespace."""
    return {"metadata": {"name": name}}


def node(name: str) -> Json:
    """A node that no kubelet of Kubernetes' own stands behind, with room for every pod."""
    return {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}


def node_status(name: str, now: datetime) -> Json:
    """It is ready."""
    room = {"cpu": "1000", "memory": "10Ti", "pods": "2000"}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "played",
        "lastHeartbeatTime": _seconds(now),
        "lastTransitionTime": _seconds(now),
    }
    status = {"capacity": room, "allocatable": room, "conditions": [condition]}
    return {"metadata": {"name": name}, "status": status}


def heartbeat(name: str, now: datetime) -> Json:
    """What says that the node lives."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": name, "namespace": NODE_LEASES},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": 40,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def pool(where: str, name: str, engines: int) -> Json:
    """A pool of one group."""
    group = {
        "name": GROUP,
        "role": "llm",
        "engine": {"type": "simulator", "port": ENGINE_PORT},
        "model": {"name": MODEL},
        "replicas": engines,
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": name, "namespace": where},
        "spec": {"groups": [group], "router": {"replicas": 1}},
    }


def deployments(where: str, name: str, engines: int) -> Iterator[Json]:
    """The Deployments of such a pool, as anybody could have written them.

    Their pods wait for no gate, and go as soon as they are deleted.
    """
    read = InferencePool.from_object(pool(where, name, engines))
    group = read.spec.groups[0]
    template = podspec.build_template(read, group, build_engine(group, IMAGES, ""), IMAGES)
    children = wanted_children(read, {GROUP: template}, {GROUP: Replicas(engines)}, IMAGES)
    for kind, obj in children:
        if kind == DEPLOYMENTS:
            yield _bare(dict(obj))


def _bare(obj: Json) -> Json:
    made = deepcopy(obj)
    made["metadata"] = {k: made["metadata"][k] for k in ("name", "namespace", "labels")}
    spec = made["spec"]["template"]["spec"]
    spec.pop("readinessGates", None)
    spec.pop("serviceAccountName", None)
    spec["terminationGracePeriodSeconds"] = 0
    for container in spec["containers"]:
        container.pop("lifecycle", None)
    return made


def running(pod: Json, ip: str, now: datetime) -> Json:
    """What a kubelet says of a pod whose containers run; ready once its gates are open."""
    status = pod.get("status") or {}
    is_true = {c["type"]: c["status"] == "True" for c in status.get("conditions") or ()}
    gates = pod["spec"].get("readinessGates") or ()
    is_ready = all(is_true.get(gate["conditionType"]) for gate in gates)
    state = {"running": {"startedAt": status.get("startTime") or _seconds(now)}}
    facts = {"ready": True, "restartCount": 0, "imageID": "", "started": True, "state": state}
    conditions = {"Initialized": True, "ContainersReady": True, "Ready": is_ready}
    return {
        "metadata": {k: pod["metadata"][k] for k in ("name", "namespace", "uid")},
        "status": {
            "phase": "Running",
            "hostIP": "10.0.0.1",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "startTime": status.get("startTime") or _seconds(now),
            "conditions": [
                {"type": type_, "status": str(value), "lastTransitionTime": _seconds(now)}
                for type_, value in conditions.items()
            ],
            "containerStatuses": [
                {"name": c["name"], "image": c["image"], **facts} for c in pod["spec"]["containers"]
            ],
        },
    }


def is_ready(obj: Object) -> bool:
    """Whether its condition Ready is True."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _seconds(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
