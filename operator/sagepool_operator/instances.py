"""Which instances are written, and when: one for each engine pod, and its status. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from sagepool_crds.pool import InferencePool
from sagepool_kube.api import INSTANCES
from sagepool_operator import transitions
from sagepool_operator.builders import instance
from sagepool_operator.drift import has_drifted, seal
from sagepool_operator.plan import Apply, ApplyStatus
from sagepool_operator.pods import PodFacts
from sagepool_operator.snapshot import Observed
from sagepool_operator.status import JudgedInstance, differs, status_object

_ADDRESS_WAIT: Final = timedelta(seconds=15)
"""So long a new pod may be without an address before it gets an instance: most are written once."""


def plan_instances(pool: InferencePool, observed: Observed, now: datetime) -> Iterator[Apply]:
    """An instance for every engine pod; none is made for a pod that is leaving already."""
    groups = {group.name: group for group in pool.spec.groups}
    seen = {i.instance.metadata.name: i for i in observed.instances}
    for pod in observed.pods:
        group = groups.get(pod.group)
        if group is None or pod.is_deleting:
            continue
        wanted = seal(instance.build_instance(pool, group, pod))
        live = seen.get(pod.name)
        if live is None and address_wait_s(pod, now) > 0:
            continue
        if live is None or (live.pod_uid == pod.uid and has_drifted(wanted, live.obj)):
            yield Apply(INSTANCES, wanted)


def address_wait_s(pod: PodFacts, now: datetime) -> float:
    """How much longer to wait for the pod's address before there is something to tell of it."""
    if pod.ip or pod.made_at is None or pod.unschedulable:
        return 0.0
    return max(0.0, (pod.made_at + _ADDRESS_WAIT - now).total_seconds())


def find_taken(pool: InferencePool, observed: Observed) -> Iterator[str]:
    """Instances that bear a pod's name but are not the pod's."""
    uids = {pod.name: pod.uid for pod in observed.pods if pod.group and not pod.is_deleting}
    for seen in observed.instances:
        name = seen.instance.metadata.name
        if name in uids and not seen.pod_uid:
            yield f"{INSTANCES.kind} {name} is there already"


def plan_statuses(observed: Observed, judged: Sequence[JudgedInstance]) -> tuple[ApplyStatus, ...]:
    """The statuses that differ from what is written, with the events of what has turned."""
    return tuple(
        ApplyStatus(
            INSTANCES,
            status_object(
                INSTANCES,
                observed.key.namespace,
                one.instance.metadata.name,
                one.instance.metadata.uid,
                one.status,
            ),
            transitions.of_instance(one.instance, one.status),
        )
        for one in judged
        if not _is_first_moment(one) and differs(one.instance.status, one.status)
    )


def _is_first_moment(one: JudgedInstance) -> bool:
    """Whether there is no status yet and nothing to say: the first probe ends within seconds."""
    is_new = not one.instance.status.conditions
    return is_new and one.verdict.ready.reason == "NotProbedYet"
