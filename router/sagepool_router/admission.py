"""A request's way from its body to a place: read, route, wait or be refused, be sent."""

from typing import TYPE_CHECKING, Final

from sagepool_router.auth.keys import ApiKey
from sagepool_router.backend import LiveBackend
from sagepool_router.batch_call import BatchCall
from sagepool_router.cloud import ROUTES, Cause, Cloud
from sagepool_router.cloud_delivery import CloudDelivery
from sagepool_router.cloud_embedding import CloudEmbedding
from sagepool_router.delivery import Delivery
from sagepool_router.embedding.assembly import Assembly
from sagepool_router.embedding.request import read_request
from sagepool_router.errors import (
    InvalidRequest,
    Overloaded,
    RouterError,
    TimedOut,
    Unavailable,
    UnknownModel,
)
from sagepool_router.exchange import Exchange, owner_of
from sagepool_router.facts import NORMAL, Endpoint, RequestFacts, classify
from sagepool_router.fleet import LiveRoute
from sagepool_router.multipart import replace_model_field
from sagepool_router.request_head import RequestHead
from sagepool_router.scheduling.affinity import Affinity
from sagepool_router.scheduling.embedding_work import EmbeddingWork
from sagepool_router.scheduling.placement import Choice
from sagepool_router.scheduling.scheduler import Call, QueueFullError
from sagepool_router.scheduling.work import Work
from sagepool_router.splice import replace_model

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher

_MIN_PREFIX_TOKENS: Final = 64
"""A shorter prompt is computed sooner than it is worth a crowded instance."""


class Admission:
    """Turns requests into work for the scheduler, and its calls into deliveries.

    Args:
        dispatcher: the process' shared state.
    """

    def __init__(self, dispatcher: "Dispatcher") -> None:
        self._dispatcher = dispatcher
        self._affinity = Affinity()

    def submit(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Have a complete request placed, now or when it is its turn.

        Raises:
            RouterError: the request is invalid, or nothing can take it.
        """
        dispatcher = self._dispatcher
        head = exchange.head
        facts = classify(endpoint, exchange.body, head)
        key = exchange.key
        route = dispatcher.fleet.routes.get(facts.model)
        if route is None:
            raise self._unrouted(facts.model, key)
        if route.role != endpoint.role or route.is_suspended:
            self._check(route, endpoint, facts)
        work = self._work(exchange, endpoint, facts, route)
        if key is not None:
            # written tokens weigh double for the scheduler, and count once for the key
            estimate = (work.tokens + facts.prompt_tokens) // 2 or 1
            key.admit(facts.model, estimate, dispatcher.clock())
            exchange.charged_tokens = estimate
            exchange.prompt_tokens = facts.prompt_tokens
        exchange.route = route
        exchange.work = work
        if facts.model != route.model:
            exchange.body = rename(exchange.body, head, route.model)
        if facts.deadline_s is not None:
            work.deadline_at = exchange.set_deadline(facts.deadline_s)
        dispatcher.budget.requests += 1
        if route.cause is None:
            self._place(exchange, route, work)
        else:
            self._leave_pool(exchange, route, work, route.cause)

    def _place(self, exchange: Exchange, route: LiveRoute, work: Work[LiveBackend]) -> None:
        scheduler = self._dispatcher.scheduler
        lane = route.lane
        if not route.standing.healthy and not lane.placement.has_room and not lane.queue.count:
            # what waits already is served when one that was tried is back: nobody is sent before it
            place = route.last_resort()
            if place is not None:
                scheduler.force(lane, work, place)
                return
        try:
            scheduler.submit(lane, work)
        except QueueFullError as full:
            # the provider is for what the pool cannot take, not for one who has had his share of it
            is_greedy = full.whose == "flow"
            if is_greedy or not self._send_to_cloud(exchange, route, work, "overloaded"):
                is_failing = route.members and not route.standing.healthy
                raise (self._failing(route) if is_failing else self._full(route, full)) from None
        if work.state == "waiting":
            limit_s = scheduler.settings.queue.max_wait_s
            exchange.wait_for("scheduling", limit_s if route.members else route.hold_s or limit_s)

    def _check(self, route: LiveRoute, endpoint: Endpoint, facts: RequestFacts) -> None:
        """Refuse what the model is not there for, or not now."""
        if endpoint.role is not None and route.role != endpoint.role:
            raise InvalidRequest(
                f"model {facts.model} is served for role {route.role}: "
                f"{endpoint.path.decode()} needs a model of role {endpoint.role}",
                "conflicting_request_type",
                param="model",
            )
        if route.is_suspended:
            pool = self._dispatcher.fleet.table.pool
            raise self._absent(f"pool {pool} is suspended", "suspended", route)

    def _work(
        self, exchange: Exchange, endpoint: Endpoint, facts: RequestFacts, route: LiveRoute
    ) -> Work[LiveBackend]:
        lane, session, key = route.lane, facts.session, exchange.key
        prompt_tokens = tokens = facts.prompt_tokens
        affinity = None
        if route.role == "llm":
            usual = lane.expected_output
            tokens += 2 * round(min(facts.max_tokens or usual, 4 * usual))
            if prompt_tokens >= _MIN_PREFIX_TOKENS and lane.settings.prefix_affinity:
                affinity = self._affinity.key(() if session else facts.fingerprints, session)
        if key is None:
            flow, weight, priority = session or "", 1.0, NORMAL
        else:
            flow, weight = key.name, key.weight
            priority = NORMAL if key.priority is None else key.priority
        work: Work[LiveBackend]
        if endpoint.kind == "embedding":
            work = EmbeddingWork(route.role, route.model, exchange.started_at, exchange)
        else:
            work = Work(route.role, route.model, exchange.started_at, exchange)
        work.priority = priority if facts.priority is None else facts.priority
        work.flow = flow
        work.weight = weight
        work.tokens = tokens or 1
        work.texts = facts.texts
        work.budget = facts.budget
        work.affinity = affinity
        work.streams = facts.stream
        return work

    # The provider.

    def _leave_pool(
        self, exchange: Exchange, route: LiveRoute, work: Work[LiveBackend], cause: Cause
    ) -> None:
        self._dispatcher.demand.want(route.model)
        if self._send_to_cloud(exchange, route, work, cause):
            return
        if cause == "source":
            raise self._without_provider(route, exchange.head.path)
        if route.hold_s or self._is_moving(route):
            self._place(exchange, route, work)  # it waits: an engine is on its way
            return
        raise self._absent(f"no instance of {route.model} is ready", "no_instance", route)

    def _is_moving(self, route: LiveRoute) -> bool:
        """Whether its last backend has just left, and another one should take its place."""
        dispatcher = self._dispatcher
        limit_s = dispatcher.scheduler.settings.queue.max_wait_s
        return route.is_expected and dispatcher.clock() - route.vacant_since < limit_s

    def _send_to_cloud(
        self, exchange: Exchange, route: LiveRoute, work: Work[LiveBackend], cause: Cause
    ) -> bool:
        """Send a request to the provider; False if that is not possible."""
        dispatcher = self._dispatcher
        cloud = dispatcher.fleet.cloud
        if cloud is None or exchange.head.is_multipart:
            return False
        if not cloud.answers(route.model, route.role, exchange.head.path, cause):
            return False
        exchange.body = replace_model(exchange.body, cloud.target.models[route.model])
        counters = dispatcher.counters
        counters.fallbacks[cause] = counters.fallbacks.get(cause, 0) + 1
        dispatcher.scheduler.force(route.lane, work, cloud.backend, f"cloud_{cause}")
        return True

    # What the scheduler has placed.

    def start(self, call: Call[LiveBackend]) -> None:
        """Send a call."""
        owner, slices, dispatcher = owner_of(call.work), call.slices, self._dispatcher
        dispatcher.accounts.note(call, owner)
        if slices and not (len(slices) == 1 and slices[0].is_whole):
            self._start_batch(call)
        elif call.place.is_provider:
            self._start_at_provider(call, owner)
        else:
            owner.deliver(Delivery(owner, dispatcher, call, owner.body))

    def _start_batch(self, call: Call[LiveBackend]) -> None:
        dispatcher = self._dispatcher
        batch = BatchCall(dispatcher, call)
        dispatcher.batches.add(batch)
        for piece in call.slices:
            exchange = owner_of(piece.work)
            if exchange.batches is not None:
                exchange.batches.add(batch)
            exchange.decision = (call.policy, call.reason)
            if piece.work.state == "placed":
                exchange.wait_for("batched", dispatcher.limits.total_s)
        batch.start()

    def _start_at_provider(self, call: Call[LiveBackend], owner: Exchange) -> None:
        dispatcher = self._dispatcher
        cloud = dispatcher.fleet.cloud
        if call.slices and cloud is not None:
            dimension = _dimension(cloud, dispatcher.fleet.routes.get(call.lane.model))
            owner.deliver(CloudEmbedding(owner, dispatcher, call, owner.body, dimension))
        else:
            owner.deliver(CloudDelivery(owner, dispatcher, call, owner.body))

    def alternative(
        self, call: Call[LiveBackend], tried: tuple[LiveBackend, ...]
    ) -> Choice[LiveBackend] | None:
        """Another backend for a call that failed; None without one."""
        if call.place.is_provider:
            return None  # its body names the provider's model
        choice = self._dispatcher.scheduler.alternative(call, tried)
        if choice is not None:
            return choice
        route = self._dispatcher.fleet.routes.get(call.lane.model)
        place = route.last_resort(tried) if route is not None else None
        return Choice(place, "last_resort") if place is not None else None

    def hand_over(self) -> None:
        """Send what waits for a model without any instance to the provider, where it may be."""
        scheduler, fleet = self._dispatcher.scheduler, self._dispatcher.fleet
        if fleet.cloud is None or not scheduler.waiting:
            return
        for lane in tuple(scheduler.lanes.values()):
            route = fleet.routes.get(lane.model)
            if route is None or route.cause is None:
                continue
            for work in lane.queue.waiting():
                if isinstance(work, EmbeddingWork) and work.taken:
                    continue  # a part of it is on its way to an engine
                owner = owner_of(work)
                if fleet.cloud.answers(route.model, route.role, owner.head.path, route.cause):
                    scheduler.cancel(lane, work)
                    self._send_to_cloud(owner, route, work, route.cause)

    def forgive(self) -> None:
        """Let what waits go to those that have failed it, where there are no others any more."""
        for exchange in self._dispatcher.exchanges:
            work, route = exchange.work, exchange.route
            if work is None or not work.avoids or route is None:
                continue
            if all(member in work.avoids for member in route.lane.placement.members):
                work.avoids = ()

    def drop(self, work: Work[LiveBackend]) -> None:
        """Refuse what waits for a model that the pool does not have any more."""
        owner = owner_of(work)
        owner.fail(self._unknown(work.model, owner.key))

    # Refusals.

    def waited_too_long(self, exchange: Exchange) -> RouterError:
        """The refusal of a request that has found no place in the time that requests may wait."""
        route = exchange.route
        if route is None:
            return self._dispatcher.overload("requests in its queue")
        route = self._dispatcher.fleet.routes.get(route.model, route)  # as it is known by now
        if not route.lane.placement.members:
            return self._absent(f"no instance of {route.model} is ready", "no_instance", route)
        if not route.standing.healthy:
            return self._failing(route)
        return TimedOut(
            f"every instance of {route.model} was at its limit for "
            f"{self._dispatcher.scheduler.settings.queue.max_wait_s:g} s "
            "(spec.scheduling.queue.maxWaitSeconds)",
            "queue_timeout",
        )

    def _unrouted(self, model: str, key: ApiKey | None) -> RouterError:
        """The refusal of a request for what is no model of the table."""
        dispatcher = self._dispatcher
        if dispatcher.fleet.table.version:
            return self._unknown(model, key)
        return Unavailable(
            "this router has no routing table yet: GET /ready says why",
            "no_table",
            retry_after_s=dispatcher.jittered(dispatcher.limits.retry_after_s),
        )

    def _unknown(self, model: str, key: ApiKey | None) -> UnknownModel:
        """The refusal lists what the key may use, not what others may."""
        known = self._dispatcher.fleet.table.models
        return UnknownModel(model, known if key is None else filter(key.allows, known))

    def _without_provider(self, route: LiveRoute, path: bytes) -> Unavailable:
        dispatcher = self._dispatcher
        table = dispatcher.fleet.table
        message = f"pool {table.pool} is answered by its provider, which "
        if path not in ROUTES:
            message += f"does not know {path.decode()}"
        elif table.cloud is None or route.model not in table.cloud.models:
            message += f"has nothing for {route.model}: spec.cloud.models does not name it"
        else:
            message += "cannot be reached at present"
        retry_after_s = dispatcher.jittered(dispatcher.limits.absence_retry_after_s)
        return Unavailable(message, "no_provider", retry_after_s=retry_after_s, reason=message)

    def _full(self, route: LiveRoute, full: QueueFullError) -> Overloaded:
        what = {
            None: "the queue",
            "flow": "your share of the queue",
            "model": "its share of the queue",
        }
        why = "every instance of {} is at its limit" if route.members else "no instance of {} is up"
        return Overloaded(
            f"{why.format(route.model)} and {what[full.whose]} is full "
            "(spec.scheduling.queue.maxRequests)",
            self._dispatcher.jittered(full.retry_after_s),
        )

    def _failing(self, route: LiveRoute) -> Unavailable:
        dispatcher = self._dispatcher
        message = (
            f"every instance of {route.model} fails; the last failure: "
            f"{route.standing.last_failure}"
        )
        retry_after_s = dispatcher.jittered(dispatcher.limits.absence_retry_after_s)
        return Unavailable(
            message, "instances_failing", retry_after_s=retry_after_s, reason=message
        )

    def _absent(self, message: str, code: str, route: LiveRoute) -> Unavailable:
        reason = route.absence
        dispatcher = self._dispatcher
        return Unavailable(
            f"{message}: {reason}" if reason else message,
            code,
            retry_after_s=dispatcher.jittered(dispatcher.limits.absence_retry_after_s),
            reason=reason or message,
        )


def rename(body: bytes, head: RequestHead, model: str) -> bytes:
    """The body with another model's name in it."""
    if head.is_multipart:
        return replace_model_field(body, head.boundary, model)
    return replace_model(body, model)


def cut(work: EmbeddingWork[LiveBackend]) -> None:
    """Look into a request for embeddings: it has to wait, or is too large for one call."""
    exchange = owner_of(work)
    request = read_request(exchange.body)
    exchange.assembly = Assembly(request)
    exchange.batches = set()
    exchange.hold(sum(map(len, request.texts)))  # beside the body, which may travel whole
    work.cut(request.parameters if request.is_mergeable else None, request.tokens)


def _dimension(cloud: Cloud, route: LiveRoute | None) -> int | None:
    """The length that the provider's vectors must have; None: not known, or not to be compared."""
    is_compared = route is not None and route.model in cloud.target.same_space
    return route.dimension if route is not None and is_compared else None
