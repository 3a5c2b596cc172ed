"""Asking a pool's provider, over a transport that answers as a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from operator_engine import StubEngine
from operator_waiting import until
from operator_world import KEY
from sagepool_crds.meta import PoolKey
from sagepool_operator.config import ProbeIntervals
from sagepool_operator.providers import ProviderProber, ask_provider
from sagepool_operator.reports import ProviderReport, advance_provider

URL = "https://provider.example/v1"
FAST = ProbeIntervals(timeout_s=0.2, failures=3, provider_s=0.06)


class Provider:
    """What answers."""

    def __init__(self) -> None:
        self.answer: httpx.Response | Exception = httpx.Response(401)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as client:
        yield client


@pytest.fixture
def wakes() -> list[PoolKey]:
    return []


@pytest.fixture
async def prober(client: httpx.AsyncClient, wakes: list[PoolKey]) -> AsyncIterator[ProviderProber]:
    prober = ProviderProber(client, FAST, wakes.append)
    yield prober
    await prober.close()


@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 429])
async def test_any_answer_of_the_service_shows_that_it_is_there(
    client: httpx.AsyncClient, provider: Provider, status: int
) -> None:
    provider.answer = httpx.Response(status)
    assert await ask_provider(client, URL) == ""
    (request,) = provider.requests
    assert str(request.url) == f"{URL}/models"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(503), "it answers 503"),
        (httpx.ReadTimeout("slow"), "it does not answer in time"),
        (
            httpx.ConnectError("[Errno -2] Name or service not known"),
            "it cannot be reached ([Errno -2] Name or service not known)",
        ),
        (httpx.RemoteProtocolError(""), "it cannot be reached (RemoteProtocolError)"),
    ],
)
async def test_what_keeps_requests_away_is_said(
    client: httpx.AsyncClient, provider: Provider, answer: httpx.Response | Exception, words: str
) -> None:
    provider.answer = answer
    assert await ask_provider(client, f"{URL}/") == words


async def test_over_a_real_socket_a_stalled_provider_and_a_missing_one_are_told_apart() -> None:
    stalled = StubEngine(is_stalled=True)
    context = ssl.create_default_context()
    async with httpx.AsyncClient(timeout=0.2, verify=context) as client:
        async with stalled.serve():
            assert await ask_provider(client, stalled.url) == "it does not answer in time"
        words = await ask_provider(client, stalled.url)
        assert words.startswith("it cannot be reached (")


async def test_pool_is_woken_when_its_provider_turns_and_only_then(
    prober: ProviderProber, provider: Provider, wakes: list[PoolKey]
) -> None:
    prober.track(KEY, URL)
    await until(lambda: len(provider.requests) >= 3)
    assert wakes == [KEY]
    assert prober.report(KEY) == ProviderReport(URL)
    provider.answer = httpx.Response(500)
    await until(lambda: len(wakes) == 2)
    found = prober.report(KEY)
    assert found is not None
    assert (found.error, found.failures >= FAST.failures) == ("it answers 500", True)
    provider.answer = httpx.Response(401)
    await until(lambda: len(wakes) == 3)
    assert prober.report(KEY) == ProviderReport(URL)


async def test_another_address_is_asked_anew_and_none_is_left_alone(
    prober: ProviderProber, provider: Provider
) -> None:
    prober.track(KEY, URL)
    await until(lambda: prober.report(KEY) is not None)
    prober.track(KEY, "https://another.example/v1")
    assert prober.report(KEY) is None
    await until(lambda: prober.report(KEY) is not None)
    assert provider.requests[-1].url.host == "another.example"
    prober.track(KEY, "")
    assert prober.report(KEY) is None
    await until(lambda: not [t for t in asyncio.all_tasks() if str(KEY) in t.get_name()])


def test_provider_survives_fewer_failures_than_the_tolerance() -> None:
    report = advance_provider(None, URL, "", 3)
    for _ in range(2):
        report = advance_provider(report, URL, "lost", 3)
        assert report.error == ""
    report = advance_provider(report, URL, "lost", 3)
    assert report.error == "lost"
    assert advance_provider(report, URL, "", 3) == ProviderReport(URL)


def test_provider_that_was_never_reached_needs_no_patience() -> None:
    assert advance_provider(None, URL, "lost", 3).error == "lost"
