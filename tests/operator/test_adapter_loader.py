"""Engines get their adapters, lose what nobody wants, and are tried again: over real sockets, with
the simulator as the engine."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from operator_waiting import until
from operator_world import KEY
from pauses import Pauses
from sagepool_crds.meta import PoolKey
from sagepool_engines.adapters import list_adapters, load_adapter, unload_adapter
from sagepool_engines.http import EngineHttp
from sagepool_operator.adapter_loader import (
    FIRST_RETRY_S,
    LAST_RETRY_S,
    STEADY_S,
    AdapterLoader,
)
from sagepool_operator.engine_session import EngineSession
from sagepool_operator.plan import AdapterTarget
from sagepool_operator.reports import AdapterReport
from sagepool_simulator.faults import Fault
from simulator_server import serving

TARGET_KEY = ("default", "rag-chat-0", "uid", "incarnation")
LOAD = "/v1/load_lora_adapter"


class Loading:
    """A loader with one engine, and what became of it."""

    def __init__(self, url: str, http: EngineHttp) -> None:
        self.url = url
        self.http = http
        self.pauses = Pauses()
        self.woken: list[PoolKey] = []
        self.loader = AdapterLoader(http, self.woken.append, sleep=self.pauses.sleep)

    def want(self, **adapters: str) -> None:
        target = AdapterTarget(TARGET_KEY, "simulator", self.url, tuple(adapters.items()))
        self.loader.track(KEY, [target])

    async def rounds(self, count: int) -> None:
        """Until the engine has been seen to so many times."""
        await until(lambda: len(self.pauses.asked_for) >= count)

    async def present(self) -> dict[str, str]:
        return dict(await list_adapters(self.http, "simulator", self.url))

    @property
    def report(self) -> AdapterReport | None:
        return self.loader.reports(KEY).get(TARGET_KEY)


@asynccontextmanager
async def loading(*faults: Fault) -> AsyncIterator[Loading]:
    async with (
        serving(*faults, is_lora_enabled=True) as url,
        aclosing(EngineSession(5.0)) as http,
    ):
        found = Loading(url, http)
        try:
            yield found
        finally:
            await found.loader.close()


async def test_an_engine_gets_its_adapters_and_the_pool_hears_of_each() -> None:
    async with loading() as one:
        one.want(a="acme/a", b="acme/b")
        await one.rounds(1)
        assert await one.present() == {"a": "acme/a", "b": "acme/b"}
        assert one.report == AdapterReport(frozenset({"a", "b"}))
        assert one.woken == [KEY] * 3  # it has none, it has one, it has both
        assert one.pauses.asked_for == [STEADY_S]


async def test_an_engine_that_has_all_is_left_alone() -> None:
    async with loading() as one:
        one.want(a="acme/a")
        await one.rounds(1)
        heard = len(one.woken)
        one.pauses.end()
        await one.rounds(2)
        assert len(one.woken) == heard
        assert one.report == AdapterReport(frozenset({"a"}))


async def test_what_nobody_wants_is_unloaded_whoever_loaded_it() -> None:
    async with loading() as one:
        await load_adapter(one.http, one.url, "x", "acme/x", in_place=False, limit_s=5)
        one.want(a="acme/a", b="acme/b")
        await one.rounds(1)
        assert await one.present() == {"a": "acme/a", "b": "acme/b"}
        one.want(b="acme/b")
        await one.rounds(2)
        assert await one.present() == {"b": "acme/b"}
        one.want()
        await one.rounds(3)
        assert await one.present() == {}
        assert one.report == AdapterReport()


async def test_other_weights_take_the_place_of_former_ones() -> None:
    async with loading() as one:
        one.want(a="acme/a")
        await one.rounds(1)
        one.want(a="acme/a-2")
        await one.rounds(2)
        assert await one.present() == {"a": "acme/a-2"}
        assert one.report == AdapterReport(frozenset({"a"}))


async def test_an_engine_that_has_lost_an_adapter_gets_it_again() -> None:
    async with loading() as one:
        one.want(a="acme/a")
        await one.rounds(1)
        await unload_adapter(one.http, one.url, "a")
        one.pauses.end()
        await one.rounds(2)
        assert await one.present() == {"a": "acme/a"}


async def test_what_fails_is_told_and_tried_again_after_ever_longer_pauses() -> None:
    refusals = Fault(kind="status", path=LOAD, status=500, count=3)
    async with loading(refusals) as one:
        one.want(a="acme/a")
        for number in range(1, 4):
            await one.rounds(number)
            assert one.report == AdapterReport(errors=(("a", "the engine says: fault on command"),))
            one.pauses.end()
        await one.rounds(4)
        assert one.report == AdapterReport(frozenset({"a"}))
        retries = [FIRST_RETRY_S, FIRST_RETRY_S * 2, FIRST_RETRY_S * 4]
        assert one.pauses.asked_for == [*retries, STEADY_S]
        # the same words again are no news
        assert one.woken == [KEY] * 3


async def test_one_that_fails_keeps_no_other_from_being_loaded() -> None:
    async with loading() as one:
        one.want(bad="/no/such/folder", good="acme/good")
        await one.rounds(1)
        assert await one.present() == {"good": "acme/good"}
        assert one.report is not None
        assert one.report.loaded == {"good"}
        assert [name for name, _ in one.report.errors] == ["bad"]


async def test_weights_that_do_not_load_leave_the_former_ones_in_use() -> None:
    async with loading() as one:
        one.want(a="acme/a")
        await one.rounds(1)
        one.want(a="/no/such/folder")
        await one.rounds(2)
        assert await one.present() == {"a": "acme/a"}
        assert one.report is not None
        assert one.report.loaded == {"a"}
        assert [name for name, _ in one.report.errors] == ["a"]


async def test_an_adapter_that_cannot_be_unloaded_is_told_and_tried_again() -> None:
    refusal = Fault(kind="status", path="/v1/unload_lora_adapter", status=500, count=1)
    async with loading(refusal) as one:
        await load_adapter(one.http, one.url, "x", "acme/x", in_place=False, limit_s=5)
        one.want()
        await one.rounds(1)
        assert one.report == AdapterReport(errors=(("x", "the engine says: fault on command"),))
        one.pauses.end()
        await one.rounds(2)
        assert await one.present() == {}
        assert one.report == AdapterReport()


async def test_an_engine_that_does_not_answer_is_no_news_and_is_asked_again() -> None:
    async with aclosing(EngineSession(5.0)) as http:
        one = Loading("http://127.0.0.1:1", http)
        try:
            one.want(a="acme/a")
            await one.rounds(1)
            assert one.report is None
            assert one.woken == []
            assert one.pauses.asked_for == [FIRST_RETRY_S]
        finally:
            await one.loader.close()


async def test_an_engine_that_is_followed_no_more_has_no_report() -> None:
    async with loading() as one:
        one.want(a="acme/a")
        await one.rounds(1)
        one.loader.track(KEY, [])
        assert one.report is None


async def test_pauses_have_a_limit() -> None:
    async with loading(Fault(kind="status", path=LOAD, status=500)) as one:
        one.want(a="acme/a")
        for number in range(1, 9):
            await one.rounds(number)
            one.pauses.end()
        await one.rounds(9)
        assert max(one.pauses.asked_for) == LAST_RETRY_S
