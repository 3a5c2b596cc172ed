"""What a router reports of each group: the operator scales by it."""

from contextlib import ExitStack
from dataclasses import replace

from router_engines import Engine, serve_engine
from router_scheduling import named, occupy, open_all, queue_up
from router_server import RouterServer, backend, serve_router, table_of
from router_wire import ask, eventually
from sagepool_router.demand import GroupDemand
from sagepool_router.limits import Limits
from sagepool_router.table import RoutingTable

QUICK = Limits(sweep_tick_s=0.02)


class ManualClock:
    """A clock that a test puts forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def grouped(*engines: Engine, limit: int = 256, more: tuple[str, ...] = ()) -> RoutingTable:
    """Group a has the first engine, b the second; `more` groups serve the model without any."""
    backends = [
        replace(backend(e.port, instance=f"engine-{name}", limit=limit), group=name)
        for e, name in zip(engines, "ab", strict=False)
    ]
    table = table_of(*backends, absent={} if backends else {"ok": "none"})
    groups = [b.group for b in backends] + [*more]
    return replace(table, groups={group: ("ok",) for group in groups})


def demand(router: RouterServer, group: str = "a") -> GroupDemand:
    found = router.call(router.dispatcher.demand.report)
    return next(d for d in found if d.group == group)


def test_a_group_reports_what_its_own_engines_have_and_may_have() -> None:
    with ExitStack() as stack:
        engines = [stack.enter_context(serve_engine("held")) for _ in range(2)]
        router = stack.enter_context(serve_router(grouped(*engines, limit=3), QUICK))
        open_all(stack, router.port, [named(f"r{i}") for i in range(4)])
        eventually(lambda: sum(router.in_flight().values()) == 4, "all are placed")
        found = [demand(router, group) for group in "ab"]
        assert [d.in_flight for d in found] == [2, 2]
        assert [d.capacity for d in found] == [3, 3]
        for engine in engines:
            engine.let_go()


def test_what_waits_is_shared_out_among_the_groups_that_serve_its_model() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("held"))
        table = grouped(engine, limit=1, more=("spare",))
        router = stack.enter_context(serve_router(table, QUICK))
        occupy(stack, router, engine)
        queue_up(stack, router, [named(f"q{i}") for i in range(3)])
        assert [demand(router, group).queued_requests for group in ("a", "spare")] == [2, 2]
        engine.let_go()


def test_a_group_is_idle_since_its_last_request_however_short_it_was() -> None:
    clock = ManualClock()
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(grouped(engine), QUICK, clock=clock))
        clock.now += 60
        assert demand(router).idle_s == 60, "nobody has asked since the router started"
        assert ask(router.port, named("one")).status == 200
        eventually(lambda: demand(router).idle_s == 0, "it is noticed although it has ended")
        clock.now += 30
        eventually(lambda: demand(router).idle_s == 30, "nothing else came")


def test_a_request_that_waits_keeps_its_group_from_being_idle() -> None:
    clock = ManualClock()
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("held"))
        router = stack.enter_context(serve_router(grouped(engine, limit=1), QUICK, clock=clock))
        occupy(stack, router, engine)
        clock.now += 2
        eventually(lambda: demand(router).idle_s == 0, "the engine has a request")
        engine.let_go()


def test_a_request_that_no_engine_can_take_says_that_the_group_is_wanted() -> None:
    clock = ManualClock()
    with serve_router(grouped(more=("a",)), QUICK, clock=clock) as router:
        clock.now += 600
        assert demand(router).unmet_s is None
        assert ask(router.port, named("first")).status == 503
        clock.now += 7
        assert (demand(router).unmet_s, demand(router).idle_s) == (7, 7)


def test_answers_are_counted_by_the_time_to_their_first_byte() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(grouped(engine), QUICK))
        for _ in range(3):
            assert ask(router.port, named("one")).status == 200
        eventually(lambda: sum(demand(router).first_byte_counts) == 3, "all are counted")
