"""Traffic of every kind while engines come and go, counted, and how many engines there were."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e_pool import CHAT_ALIAS, EMBEDDING_MODEL, Pool
from e2e_traffic import BackgroundTraffic
from kubectl import find_tool
from sagepool_crds import names
from sagepool_demo.figures import Outcome
from sagepool_demo.traffic import Plan

TOKEN_MS = 100
"""The engines' time for a token: give them `--itl-ms` of it."""
STREAM_S = 20
_STREAMS = 4
_CLIENTS = 6


@dataclass
class MixedTraffic:
    """Short chats, streamed and not, embeddings, and streams of STREAM_S."""

    short: BackgroundTraffic
    long: BackgroundTraffic
    is_ended: bool = False

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all requests so far."""
        return [*self.short.outcomes, *self.long.outcomes]

    def failures(self) -> Counter[str]:
        """Failed requests by reason."""
        return Counter(outcome.failure for outcome in self.outcomes if outcome.failure)

    def counts(self) -> Counter[str]:
        """Answered requests by kind, long streams apart."""
        answered = Counter(o.kind for o in self.short.outcomes if not o.failure)
        streams = sum(not o.failure and o.latency_s >= STREAM_S * 0.9 for o in self.long.outcomes)
        return Counter({**answered, "long stream": streams})

    def streams_over(self, moment_s: float) -> Counter[str]:
        """Streams that were under way then and have been answered, by instance."""
        found = (o for o in self.long.outcomes if o.started_s < moment_s < o.ended_s)
        return Counter(outcome.instance for outcome in found if not outcome.failure)

    @property
    def now_s(self) -> float:
        """Seconds since the long streams began."""
        return self.long.elapsed_s

    def end(self) -> None:
        """Ask no more, and return when every request under way has come to its end."""
        if not self.is_ended:
            self.is_ended = True
            self.short.stop()
            self.long.stop()


@contextmanager
def flowing_mixed_traffic(url: str) -> Iterator[MixedTraffic]:
    """Requests of every kind flow while inside; on leaving, those under way have ended.

    Failures are counted, never retried by the clients.
    """
    pauses = {"shortest_pause_s": 0.05, "longest_pause_s": 0.3}
    short = Plan(CHAT_ALIAS, EMBEDDING_MODEL, _CLIENTS, answer_tokens=4, **pauses)
    long = Plan(
        CHAT_ALIAS,
        EMBEDDING_MODEL,
        _STREAMS,
        answer_tokens=STREAM_S * 1000 // TOKEN_MS,
        mix=("streamed chat",),
        **pauses,
    )
    traffic = MixedTraffic(BackgroundTraffic(url, short), BackgroundTraffic(url, long))
    traffic.long.start()
    traffic.short.start()
    try:
        yield traffic
    finally:
        traffic.end()


@contextmanager
def watched_availability(pool: Pool, group: str) -> Iterator[list[int]]:
    """Every number of available engines that the group's Deployment has had while inside."""
    kubectl = pool.kubectl
    seen: list[int] = []
    command = [
        find_tool("kubectl"),
        f"--kubeconfig={kubectl.kubeconfig}",
        f"--namespace={kubectl.namespace}",
        "get",
        "deployment",
        names.group_name(pool.name, group),
        "--watch",
        "--output=jsonpath={.status.availableReplicas}{'\\n'}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield seen
        finally:
            process.terminate()
            assert process.stdout is not None
            seen.extend(int(line or 0) for line in process.stdout.read().splitlines())
