"""Asking routers which instances they send to."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from engine_answers import PlayedEngines
from operator_waiting import until
from operator_world import KEY
from sagepool_crds.meta import PoolKey
from sagepool_operator.routability.answers import RouterAnswer
from sagepool_operator.routability.tables import RouterTables
from sagepool_operator.router_pods import RouterPod

A = RouterPod("rag-router-a", "uid-a", "http://10.1.0.1:9090")
B = RouterPod("rag-router-b", "uid-b", "http://10.1.0.2:9090")
Answer = Callable[[httpx.Request], httpx.Response]


def lists(*instances: str) -> Answer:
    body = {"version": 7, "instances": list(instances), "of_a_later_version": True}
    return lambda request: httpx.Response(200, json=body)


def fails(error: type[httpx.HTTPError]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("no route")

    return answer


class Routers:
    """Two routers that say what a test says, and the rounds in which they were asked."""

    def __init__(self) -> None:
        self.says: dict[str, Answer] = {A.url: lists(), B.url: lists()}
        self.asked: list[str] = []
        self.woken: list[PoolKey] = []
        self.rounds = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/admin/routable"
        url = f"http://{request.url.netloc.decode()}"
        self.asked.append(url)
        return self.says[url](request)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.rounds += 1
        await asyncio.sleep(0)


@pytest.fixture
def routers() -> Routers:
    return Routers()


@pytest.fixture
async def tables(routers: Routers) -> AsyncIterator[RouterTables]:
    http = PlayedEngines(routers.answer)
    tables = RouterTables(http, routers.woken.append, sleep=routers.sleep)
    yield tables
    await tables.close()


async def test_each_router_answers_for_itself(tables: RouterTables, routers: Routers) -> None:
    routers.says = {A.url: lists("x", "y"), B.url: lists("x")}
    tables.follow(KEY, [A, B])
    await until(lambda: bool(tables.answers(KEY)))
    assert tables.answers(KEY) == {
        A.uid: RouterAnswer(frozenset({"x", "y"})),
        B.uid: RouterAnswer(frozenset({"x"})),
    }


async def test_the_pool_is_woken_by_news_only(tables: RouterTables, routers: Routers) -> None:
    tables.follow(KEY, [A])
    await until(lambda: routers.rounds > 3)
    assert routers.woken == [KEY]
    routers.says[A.url] = lists("x")
    await until(lambda: len(routers.woken) == 2)
    assert tables.answers(KEY)[A.uid].instances == {"x"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fails(httpx.ConnectError), "cannot be reached: no route"),
        (fails(httpx.ReadTimeout), "does not answer in time"),
        (lambda _: httpx.Response(404), "answers 404"),
        (lambda _: httpx.Response(200, text="hello"), "does not answer as a router does"),
    ],
    ids=["refused", "silent", "without the route", "something else"],
)
async def test_a_router_that_cannot_be_asked_says_why(
    tables: RouterTables, routers: Routers, answer: Answer, words: str
) -> None:
    routers.says = {A.url: answer, B.url: lists("x")}
    tables.follow(KEY, [A, B])
    await until(lambda: bool(tables.answers(KEY)))
    found = tables.answers(KEY)
    assert found[A.uid].instances == frozenset()
    assert f"{A.url}/admin/routable {words}" in found[A.uid].error
    assert found[B.uid] == RouterAnswer(frozenset({"x"}))


async def test_a_router_that_is_new_is_asked_and_one_that_left_is_not(
    tables: RouterTables, routers: Routers
) -> None:
    tables.follow(KEY, [A])
    await until(lambda: A.uid in tables.answers(KEY))
    tables.follow(KEY, [B])
    await until(lambda: tables.answers(KEY).keys() == {B.uid})


async def test_nobody_is_asked_when_nobody_waits(tables: RouterTables, routers: Routers) -> None:
    tables.follow(KEY, [A])
    other = PoolKey("default", "other")
    tables.follow(other, [B])
    await until(lambda: bool(tables.answers(KEY)))
    tables.follow(KEY, [])
    assert tables.answers(KEY) == {}
    rounds = routers.rounds
    await until(lambda: routers.rounds > rounds + 3)
    routers.asked.clear()
    await until(lambda: len(routers.asked) > 3)
    assert set(routers.asked) == {B.url}
