"""The router pods of a pool that the operator asks. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sagepool_operator.builders import router
from sagepool_operator.pods import PodFacts


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router, and where it is asked."""

    name: str
    uid: str
    """Of its pod: it counts once, whatever its address."""
    url: str
    """Of its admin port."""


def running_routers(pods: Sequence[PodFacts]) -> tuple[RouterPod, ...]:
    """Those that can be asked, by name."""
    return tuple(_read(pod for pod in pods if pod.is_running))


def ready_routers(pods: Sequence[PodFacts]) -> tuple[RouterPod, ...]:
    """Those that the pool's Service sends clients to, by name."""
    return tuple(_read(pod for pod in pods if pod.is_ready))


def _read(pods: Iterable[PodFacts]) -> Iterator[RouterPod]:
    for pod in sorted(pods, key=lambda pod: pod.name):
        if not pod.group and pod.ip and not pod.is_deleting:
            yield RouterPod(pod.name, pod.uid, router.admin_url(pod.ip))
