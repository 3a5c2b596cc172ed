"""The readiness gate of engine pods. Pure.

An engine that answers its probe is Ready on its instance, and the routers take it into their
tables. The gate of its pod is opened when every ready router has it there, and only then does the
Deployment go on to take an old pod away: at no moment is an engine counted that gets no requests.
A gate is opened once in a pod's life and never closed: from then on the tables alone say who is
sent requests.

    instance Ready ─► each ready router lists it ─► gate open ─► pod Ready ─► the rollout goes on
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sagepool_crds import names
from sagepool_kube.api import PODS
from sagepool_operator.builders import router
from sagepool_operator.instance_conditions import Judgement
from sagepool_operator.plan import ApplyStatus
from sagepool_operator.pods import PodFacts
from sagepool_operator.routability.answers import Answers
from sagepool_operator.router_pods import RouterPod

_OPEN: Final = Judgement(True, "InEveryRouter", "every ready router sends requests to it")


def judge_routable(
    pod: PodFacts, ready: Judgement, routers: Sequence[RouterPod], answers: Answers
) -> Judgement | None:
    """Whether the routers send to the engine of this pod; None for a pod without the gate.

    Args:
        pod: the engine's.
        ready: whether they may.
        routers: those that clients reach. Without any, there is nothing to wait for.
        answers: what they have said.
    """
    if not pod.has_gate:
        return None
    if not ready.is_true:
        return ready
    if pod.is_gate_open:
        return _OPEN
    mute = [r for r in routers if r.uid in answers and answers[r.uid].error]
    if mute:
        return Judgement(
            False,
            "RouterUnreachable",
            f"router pod {mute[0].name} does not say which instances it has: "
            f"{answers[mute[0].uid].error}: let the operator connect to its port "
            f"{router.ADMIN_PORT} (NetworkPolicy, firewall), or delete the pod if it hangs",
        )
    behind = [r.name for r in routers if not _lists(answers, r, pod)]
    if behind:
        message = f"not yet in the table of router pods {', '.join(behind)}"
        return Judgement(False, "WaitingForRouters", message)
    return _OPEN


def is_waiting(pod: PodFacts, ready: Judgement) -> bool:
    """Whether routers have to be asked before the gate of this pod is opened."""
    return pod.has_gate and not pod.is_gate_open and not pod.is_deleting and ready.is_true is True


def open_gates(
    namespace: str, pods: Sequence[PodFacts], routable: Sequence[str], now: datetime
) -> Iterator[ApplyStatus]:
    """Opens the gates of pods that are still closed; `routable` are the names of those to open."""
    names_to_open = frozenset(routable)
    for pod in pods:
        if pod.name in names_to_open and not pod.is_gate_open and not pod.is_deleting:
            yield ApplyStatus(PODS, _open_gate(namespace, pod, now))


def _open_gate(namespace: str, pod: PodFacts, now: datetime) -> dict[str, object]:
    condition = {
        "type": names.ROUTABLE_GATE,
        "status": "True",
        "reason": _OPEN.reason,
        "message": _OPEN.message,
        "lastTransitionTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {
        "apiVersion": PODS.api_version,
        "kind": PODS.kind,
        # The uid keeps it off a namesake.
        "metadata": {"name": pod.name, "namespace": namespace, "uid": pod.uid},
        "status": {"conditions": [condition]},
    }


def _lists(answers: Answers, one: RouterPod, pod: PodFacts) -> bool:
    answer = answers.get(one.uid)
    return answer is not None and pod.name in answer.instances
