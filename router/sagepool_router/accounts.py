"""What is learnt from requests and counted of them: speeds, costs, tokens, decisions."""

import logging
from typing import TYPE_CHECKING, Final

from sagepool_router.auth.keys import ApiKey
from sagepool_router.backend import LiveBackend
from sagepool_router.counters import WORKED_FOR
from sagepool_router.delivery import Delivery
from sagepool_router.exchange import Exchange, owner_of
from sagepool_router.scheduling.scheduler import Call
from sagepool_router.scheduling.work import Work
from sagepool_router.usage import Usage

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher

_logger: Final = logging.getLogger(__name__)

_ERRORS: Final = 400


class Accounts:
    """Keeps the books of a process.

    Args:
        dispatcher: the process' shared state.
    """

    def __init__(self, dispatcher: "Dispatcher") -> None:
        self._dispatcher = dispatcher

    def note(self, call: Call[LiveBackend], owner: Exchange) -> None:
        """Count and log a placement."""
        dispatcher, texts = self._dispatcher, call.texts
        if texts or call.work.sequence:
            counters = dispatcher.counters
            waited_s = call.placed_at - call.work.arrived_at
            if call.work.sequence:
                counters.queue_seconds.observe(waited_s)
            if texts:
                counters.batch_texts.observe(texts)
                counters.batch_wait_seconds.observe(waited_s)
        dispatcher.scheduler.log.add(call, owner.head.request_id)

    def note_retry(self, call: Call[LiveBackend]) -> None:
        """Log that a call has been moved to another instance."""
        self._dispatcher.scheduler.log.add(call, owner_of(call.work).head.request_id)

    def measure(
        self, call: Call[LiveBackend], owner: Exchange, usage: Usage | None, now: float
    ) -> None:
        """A request that travelled alone has been answered: learn from it."""
        if call.place.is_provider:
            self._pay(call, owner, usage)
            return
        work = call.work
        tokens = work.tokens
        if usage is not None:
            output = usage.completion_tokens or 0
            if output and work.kind == "llm":
                call.lane.observe_output(output)
            if usage.prompt_tokens is not None:
                tokens = usage.prompt_tokens + 2 * output
                call.lane.shares.correct(work.flow, work.weight, tokens - work.tokens)
        self.measure_call(call, owner, tokens, now)

    def measure_call(
        self, call: Call[LiveBackend], owner: Exchange, tokens: int, now: float
    ) -> None:
        """A call of so many tokens has been answered: learn how long it took, and charge it."""
        seconds = now - call.placed_at
        self._charge(call, owner, seconds)
        call.lane.observe(seconds)
        call.place.completed(seconds, tokens)
        if call.texts:
            call.place.observe_batch(seconds, tokens, call.in_flight, is_full=call.is_full)

    def charge(self, call: Call[LiveBackend]) -> None:
        """A call that an engine has is left: its time is paid for, and nothing learnt of it."""
        if not call.place.is_provider:
            seconds = self._dispatcher.clock() - call.placed_at
            self._charge(call, owner_of(call.work), seconds)

    def _pay(self, call: Call[LiveBackend], owner: Exchange, usage: Usage | None) -> None:
        """Count what the provider takes for a request."""
        dispatcher, lane, key = self._dispatcher, call.lane, owner.key
        cloud = dispatcher.fleet.cloud
        if cloud is None or usage is None:
            return
        cost = cloud.cost(usage.prompt_tokens or 0, usage.completion_tokens or 0)
        dispatcher.counters.of_model(lane.model, lane.kind).cloud_cost += cost
        if key is not None:
            key.usage.cloud_cost += cost

    def _charge(self, call: Call[LiveBackend], owner: Exchange, seconds: float) -> None:
        """Count the GPU time of a call, estimated.

        An engine works at all that it has in flight at once, so a call is given its part of the
        time: GPUs x seconds from placement to end / calls in flight on them. On its instance that
        is the mean of its beginning and its end; what other instances have in flight on the same
        GPU counts as it is at the end. What an engine idles is nobody's. Callers of one call share
        it by their texts' tokens.
        """
        place = call.place
        beside = (call.in_flight + place.in_flight) / 2 or 1.0
        if place.gpu is not None:
            beside += sum([p.in_flight for p in place.gpu.places]) - place.in_flight
        gpu_s = place.facts.gpus * seconds / beside
        if owner.route is not None:
            owner.route.counters.gpu_seconds += gpu_s
        if self._dispatcher.keys is None:
            return
        if not call.slices:
            _charge_key(owner, gpu_s)
            return
        weights = [sum(p.work.text_tokens[p.begin : p.end]) or 1 for p in call.slices]
        total = sum(weights)
        for piece, weight in zip(call.slices, weights, strict=True):
            _charge_key(owner_of(piece.work), gpu_s * weight / total)

    def close(
        self, exchange: Exchange, status: int, delivery: Delivery | None, usage: Usage | None
    ) -> None:
        """A request has ended: free its place, count it."""
        dispatcher = self._dispatcher
        route, work, key = exchange.route, exchange.work, exchange.key
        now = dispatcher.clock()
        if delivery is not None:
            usage = delivery.end(status, now)
        elif work is not None and route is not None:
            dispatcher.scheduler.cancel(route.lane, work)
            if status >= _ERRORS and exchange.batches:
                for batch in [b for b in exchange.batches if not b.is_wanted]:
                    batch.abandon()
        if key is not None and work is not None and exchange.charged_tokens:
            _settle(exchange, key, work, status, delivery, usage, now)
        self._count(exchange, status, delivery, usage, now)
        if dispatcher.logs_requests:
            _log(exchange, status, delivery, usage, now)
        if work is not None and exchange.assembly is None:
            # a cycle of the two would wait for the garbage collector, at every request
            exchange.work = work.owner = None

    def _count(
        self,
        exchange: Exchange,
        status: int,
        delivery: Delivery | None,
        usage: Usage | None,
        now: float,
    ) -> None:
        route = exchange.route
        counters = self._dispatcher.counters.unrouted if route is None else route.counters
        counters.codes[status] += 1
        if exchange.error_code:
            counters.refused[exchange.error_code] += 1
        relay = delivery.relay if delivery is not None else None
        took_s = now - exchange.started_at
        if relay is not None:
            counters.chunks += relay.reads
            counters.first_byte_seconds.observe(relay.opened_at - exchange.started_at)
        elif exchange.work is not None and status < _ERRORS:
            counters.first_byte_seconds.observe(took_s)
        if status < _ERRORS:
            counters.request_seconds.observe(took_s)
        if usage is not None:
            counters.prompt_tokens += usage.prompt_tokens or 0
            counters.completion_tokens += usage.completion_tokens or 0


def _is_free(work: Work[LiveBackend], status: int, delivery: Delivery | None) -> bool:
    """Whether no engine has worked for a request: else an outage would use up its key's tokens."""
    if work.place is None:
        return True
    relay = delivery.relay if delivery is not None else None
    has_begun = relay is not None and relay.status < _ERRORS
    return status >= _ERRORS and status not in WORKED_FOR and not has_begun


def _settle(
    exchange: Exchange,
    key: ApiKey,
    work: Work[LiveBackend],
    status: int,
    delivery: Delivery | None,
    usage: Usage | None,
    now: float,
) -> None:
    """Tell the key what its request has cost."""
    charged, exchange.charged_tokens = exchange.charged_tokens, 0
    relay = delivery.relay if delivery is not None else None
    if usage is not None and usage.prompt_tokens is not None:
        key.settle(charged, usage.prompt_tokens, usage.completion_tokens or 0, now)
    elif _is_free(work, status, delivery):
        key.settle(charged, 0, 0, now)
    elif relay is not None and work.kind == "llm":
        # a stream that does not tell its usage has a token in each read, at least
        said = usage.completion_tokens if usage is not None else None
        key.settle(charged, exchange.prompt_tokens, said or relay.reads, now)
    else:
        key.settle(charged, None, None, now)


def _charge_key(owner: Exchange, gpu_s: float) -> None:
    if owner.key is not None:
        owner.key.usage.gpu_seconds += gpu_s


def _log(
    exchange: Exchange, status: int, delivery: Delivery | None, usage: Usage | None, now: float
) -> None:
    """One line a request, for those who ask for it: whose, whereto, how long, never what."""
    work, key = exchange.work, exchange.key
    place = work.place if work is not None else None
    call = delivery.call if delivery is not None else None
    policy, reason = exchange.decision if call is None else (call.policy, call.reason)
    relay = delivery.relay if delivery is not None else None
    _logger.info(
        "request",
        extra={
            "request_id": exchange.head.request_id.decode("latin-1"),
            "path": exchange.head.path.decode("latin-1"),
            "status": status,
            "model": exchange.route.model if exchange.route is not None else "",
            "instance": place.name if place is not None else "",
            "policy": policy,
            "reason": reason,
            "error": exchange.error_code,
            "key": key.name if key is not None else "",
            "priority": work.priority if work is not None else None,
            "waited_ms": _ms(work.placed_at - work.arrived_at) if place and work else None,
            "first_byte_ms": _ms(relay.opened_at - exchange.started_at) if relay else None,
            "total_ms": _ms(now - exchange.started_at),
            "prompt_tokens": usage.prompt_tokens if usage is not None else None,
            "completion_tokens": usage.completion_tokens if usage is not None else None,
        },
    )


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
