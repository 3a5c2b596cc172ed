"""The router's page of metrics: the counters of the request path, the table and the process."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sagepool_router.counters import Counters, Histogram, ModelCounters
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.exposition import Page
from sagepool_router.fleet import BackendLoad
from sagepool_router.health import Health
from sagepool_router.sources.publisher import TablePublisher

_PREFIX: Final = "sagepool_router_"
_PROC: Final = Path("/proc/self")


class Metrics:
    """Renders the page when somebody scrapes.

    Args:
        dispatcher: the request path.
        publisher: the tables.
        health: the source's state.
        started_at: Unix time of the process' start.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        publisher: TablePublisher,
        health: Health,
        started_at: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._health = health
        self._started_at = started_at

    def render(self, *, with_keys: bool) -> str:
        """The page in Prometheus' text format.

        Args:
            with_keys: API keys' names, use and cost too, which are not for every client.
        """
        page = Page()
        _add_requests(page, self._dispatcher.counters)
        _add_path(page, self._dispatcher)
        _add_scheduling(page, self._dispatcher)
        _add_backends(page, self._dispatcher.snapshot())
        _add_table(page, self._publisher, self._health)
        if with_keys:
            _add_keys(page, self._dispatcher)
        _add_process(page, self._started_at)
        return page.text()


def _by_model(counters: Counters) -> list[tuple[dict[str, str], ModelCounters]]:
    """Counters with their labels; refusals before a model was known have empty ones."""
    known = sorted(counters.by_model().items())
    return [
        *(({"model": model, "role": role}, counts) for (model, role), counts in known),
        ({"model": "", "role": ""}, counters.unrouted),
    ]


def _add_requests(page: Page, counters: Counters) -> None:
    models = _by_model(counters)
    requests = page.family(
        _PREFIX + "requests_total",
        "counter",
        "Inference requests that ended, by HTTP status; 499: the client left. "
        "Without model: refused before one was known.",
    )
    for labels, counts in models:
        for code, count in sorted(counts.codes.items()):
            requests.add(count, {**labels, "code": str(code)})
    refused = page.family(
        _PREFIX + "refused_total",
        "counter",
        "Inference requests that this router refused or failed, by the code of the error; "
        "client_closed: the client left.",
    )
    for labels, counts in models:
        for reason, count in sorted(counts.refused.items()):
            refused.add(count, {**labels, "reason": reason})
    _add_histograms(
        page,
        models,
        "request_seconds",
        "Time from a request's head to the end of its answer, of answers below status 400.",
        lambda counts: counts.request_seconds,
    )
    _add_histograms(
        page,
        models,
        "ttft_seconds",
        "Time from a request's head to the first byte of its answer; for streams the first token.",
        lambda counts: counts.first_byte_seconds,
    )
    chunks = page.family(
        _PREFIX + "chunks_total", "counter", "Parts of answers passed on to clients."
    )
    for labels, counts in models:
        if labels["model"]:
            chunks.add(counts.chunks, labels)
    _add_costs(page, models)


def _add_costs(page: Page, models: Sequence[tuple[dict[str, str], ModelCounters]]) -> None:
    tokens = page.family(
        _PREFIX + "tokens_total", "counter", "Tokens by kind, as the engines report their usage."
    )
    for labels, counts in models:
        if labels["model"]:
            tokens.add(counts.prompt_tokens, {**labels, "kind": "prompt"})
            tokens.add(counts.completion_tokens, {**labels, "kind": "completion"})
    gpu = page.family(
        _PREFIX + "gpu_seconds_total",
        "counter",
        "GPU time of requests that were answered, or left or timed out at an engine, estimated: "
        "GPUs x seconds / calls in flight beside it.",
    )
    for labels, counts in models:
        if labels["model"]:
            gpu.add(counts.gpu_seconds, labels)
    cost = page.family(
        _PREFIX + "cloud_cost_total",
        "counter",
        "What the provider took, in the currency of the pool's prices.",
    )
    for labels, counts in models:
        if counts.cloud_cost:
            cost.add(counts.cloud_cost, labels)


def _add_histograms(
    page: Page,
    models: Sequence[tuple[dict[str, str], ModelCounters]],
    name: str,
    help_: str,
    choose: Callable[[ModelCounters], Histogram],
) -> None:
    family = page.family(_PREFIX + name, "histogram", help_)
    for labels, counts in models:
        if labels["model"]:
            found = choose(counts)
            family.add_histogram(found.bounds, found.counts, found.total, labels)


def _add_path(page: Page, dispatcher: Dispatcher) -> None:
    counters = dispatcher.counters
    retries = page.family(
        _PREFIX + "retries_total",
        "counter",
        "Further attempts by reason, at another instance; stale: once more at the same, on a new "
        "connection; overload: after waiting again, because it was full.",
    )
    for reason, count in sorted(counters.retries.items()):
        retries.add(count, {"reason": reason})
    page.family(
        _PREFIX + "client_disconnects_total",
        "counter",
        "Clients that left before their answer was complete.",
    ).add(counters.client_disconnects)
    page.family(
        _PREFIX + "requests_in_progress", "gauge", "Inference requests under way in this process."
    ).add(len(dispatcher.exchanges))
    page.family(
        _PREFIX + "held_body_bytes",
        "gauge",
        "Bodies of requests held in memory for retries, and copies of them for merged calls.",
    ).add(dispatcher.held_body_bytes)


def _add_scheduling(page: Page, dispatcher: Dispatcher) -> None:
    scheduler, counters = dispatcher.scheduler, dispatcher.counters
    waiting = page.family(_PREFIX + "queue_requests", "gauge", "Requests that wait for a place.")
    for lane in scheduler.lanes.values():
        waiting.add(len(lane.queue), {"model": lane.model, "role": lane.kind})
    decisions = page.family(
        _PREFIX + "decisions_total", "counter", "Placements by policy and reason."
    )
    for (policy, reason), count in sorted(scheduler.log.counts.items()):
        decisions.add(count, {"policy": policy, "reason": reason})
    for name, help_, found in (
        ("queue_seconds", "Time in the queue of requests that waited.", counters.queue_seconds),
        ("batch_texts", "Texts in an embedding call.", counters.batch_texts),
        (
            "batch_wait_seconds",
            "Time that the first text of an embedding call waited for it.",
            counters.batch_wait_seconds,
        ),
    ):
        family = page.family(_PREFIX + name, "histogram", help_)
        family.add_histogram(found.bounds, found.counts, found.total, {})
    page.family(
        _PREFIX + "split_batches_total",
        "counter",
        "Embedding calls that an engine refused and that were tried again in halves.",
    ).add(counters.split_batches)
    fallbacks = page.family(
        _PREFIX + "fallback_total", "counter", "Requests that went to the provider, by cause."
    )
    for cause, count in sorted(counters.fallbacks.items()):
        fallbacks.add(count, {"cause": cause})
    _add_gpus(page, dispatcher)


def _add_keys(page: Page, dispatcher: Dispatcher) -> None:
    if dispatcher.keys is None:
        return
    usage = [({"key": key.name}, key.usage) for key in dispatcher.keys.keyring.keys]
    page.family(
        _PREFIX + "key_requests_total", "counter", "Requests that were admitted, by API key."
    ).add_all((used.requests, label) for label, used in usage)
    rejected = page.family(
        _PREFIX + "key_rejected_total", "counter", "Requests that a key's limits refused."
    )
    for label, used in usage:
        for reason, count in sorted(used.rejected.items()):
            rejected.add(count, {**label, "reason": reason})
    tokens = page.family(_PREFIX + "key_tokens_total", "counter", "Tokens by API key and kind.")
    for label, used in usage:
        tokens.add(used.prompt_tokens, {**label, "kind": "prompt"})
        tokens.add(used.completion_tokens, {**label, "kind": "completion"})
    page.family(
        _PREFIX + "key_gpu_seconds_total", "counter", "Estimated GPU time by API key."
    ).add_all((used.gpu_seconds, label) for label, used in usage)
    page.family(
        _PREFIX + "key_cloud_cost_total", "counter", "What the provider took, by API key."
    ).add_all((used.cloud_cost, label) for label, used in usage)
    page.family(
        _PREFIX + "key_inflight", "gauge", "Requests of an API key that are under way."
    ).add_all((used.in_flight, label) for label, used in usage)


def _add_gpus(page: Page, dispatcher: Dispatcher) -> None:
    gpus = [
        ({"device": n.removeprefix("instance:")}, g.state)
        for n, g in dispatcher.scheduler.gpus.items()
    ]
    page.family(
        _PREFIX + "embedding_window",
        "gauge",
        "Embedding calls that chat's time to first token allows on a shared GPU.",
    ).add_all((state.hold_back.window, label) for label, state in gpus)
    held_back = page.family(
        _PREFIX + "embeddings_held_back",
        "gauge",
        "1 while embeddings are held back on a shared GPU, by cause.",
    )
    for label, state in gpus:
        if state.held_back_by is not None:
            held_back.add(1, {**label, "cause": state.held_back_by})
    page.family(
        _PREFIX + "chat_target_unreachable",
        "gauge",
        "1 while chat misses its target on a shared GPU without any embedding beside it.",
    ).add_all((int(not state.hold_back.is_reachable), label) for label, state in gpus)


def _add_backends(page: Page, loads: Sequence[BackendLoad]) -> None:
    backends = [({"instance": load.instance, "role": load.role}, load) for load in loads]
    page.family(
        _PREFIX + "inflight", "gauge", "Requests that this router has in flight on an instance."
    ).add_all((load.in_flight, label) for label, load in backends)
    page.family(
        _PREFIX + "capacity", "gauge", "Calls that an instance may have in flight now."
    ).add_all((load.capacity, label) for label, load in backends)
    page.family(
        _PREFIX + "idle_connections", "gauge", "Open connections to an instance without a request."
    ).add_all((load.idle_connections, label) for label, load in backends)
    page.family(
        _PREFIX + "breaker_open",
        "gauge",
        "1 while an instance that failed gets no or one request at a time.",
    ).add_all((int(load.state in ("ejected", "probation")), label) for label, load in backends)


def _add_table(page: Page, publisher: TablePublisher, health: Health) -> None:
    readiness = health.judge()
    page.family(_PREFIX + "source_up", "gauge", "1 while the source of the table is followed.").add(
        int(readiness.source.is_connected), {"source": readiness.source.kind}
    )
    page.family(
        _PREFIX + "table_version", "gauge", "Number of the table in use; 0: none was loaded."
    ).add(readiness.table_version)
    if publisher.has_table:
        page.family(
            _PREFIX + "table_timestamp_seconds",
            "gauge",
            "Unix time at which the table came into use.",
        ).add(publisher.published_at)
    instances = page.family(
        _PREFIX + "instances", "gauge", "Instances of the table by whether they get requests."
    )
    instances.add(readiness.routable, {"routable": "true"})
    instances.add(readiness.instances - readiness.routable, {"routable": "false"})


def _add_process(page: Page, started_at: float) -> None:
    page.family(
        "process_cpu_seconds_total", "counter", "User and system CPU time of the process."
    ).add(time.process_time())
    page.family(
        "process_start_time_seconds", "gauge", "Unix time at which the process started."
    ).add(started_at)
    try:
        pages = int((_PROC / "statm").read_text().split()[1])
        files = len(os.listdir(_PROC / "fd"))
    except OSError:
        return  # not Linux
    page.family(
        "process_resident_memory_bytes", "gauge", "Memory of the process that is in RAM."
    ).add(pages * os.sysconf("SC_PAGE_SIZE"))
    page.family("process_open_fds", "gauge", "Open files and sockets of the process.").add(files)
