"""Asking downloads how far they are, over HTTP that answers as a test says."""

import httpx
import pytest

from engine_answers import PlayedEngines
from operator_waiting import until
from operator_world import KEY
from pauses import Pauses
from sagepool_crds.meta import PoolKey
from sagepool_operator.plan import ProgressTarget
from sagepool_operator.progress import PACE_S, ProgressReader, ask_progress
from sagepool_operator.reports import ProgressReport

TARGET = ProgressTarget("pod-uid", "http://10.1.1.1:9093/progress")
TOLD = {
    "phase": "Downloading",
    "bytes": 5,
    "totalBytes": 10,
    "bytesPerSecond": 1,
    "remainingSeconds": 5,
}


class Download:
    """What answers."""

    def __init__(self) -> None:
        self.answer: httpx.Response | Exception = httpx.Response(200, json=TOLD)
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def download() -> Download:
    return Download()


@pytest.fixture
def http(download: Download) -> PlayedEngines:
    return PlayedEngines(download)


async def test_an_answer_is_read(http: PlayedEngines) -> None:
    assert await ask_progress(http, TARGET.url) == ProgressReport(5, 10, 1, 5)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.Response(500),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"bytes": "many"}),
        httpx.Response(200, json={**TOLD, "bytes": -1}),
    ],
)
async def test_what_does_not_tell_is_no_report(
    http: PlayedEngines, download: Download, answer: httpx.Response | Exception
) -> None:
    download.answer = answer
    assert await ask_progress(http, TARGET.url) is None


async def test_the_pool_is_woken_by_news_only(http: PlayedEngines, download: Download) -> None:
    wakes: list[PoolKey] = []
    pauses = Pauses()
    reader = ProgressReader(http, wakes.append, sleep=pauses.sleep)
    reader.track(KEY, [TARGET])
    await until(lambda: len(pauses.asked_for) == 1)
    assert reader.reports(KEY) == {TARGET.uid: ProgressReport(5, 10, 1, 5)}
    assert (wakes, pauses.asked_for) == ([KEY], [PACE_S])
    pauses.end()
    await until(lambda: len(pauses.asked_for) == 2)
    assert (wakes, download.asked) == ([KEY], 2)
    download.answer = httpx.Response(200, json={**TOLD, "bytes": 6})
    pauses.end()
    await until(lambda: len(pauses.asked_for) == 3)
    assert wakes == [KEY, KEY]
    reader.track(KEY, [])
    assert reader.reports(KEY) == {}
    await reader.close()


async def test_one_that_does_not_know_its_size_yet_is_asked_more_often(
    http: PlayedEngines, download: Download
) -> None:
    download.answer = httpx.ConnectError("refused")
    pauses = Pauses()
    reader = ProgressReader(http, lambda _: None, sleep=pauses.sleep)
    reader.track(KEY, [TARGET])
    await until(lambda: len(pauses.asked_for) == 1)
    assert pauses.asked_for[0] < PACE_S
    assert reader.reports(KEY) == {}
    await reader.close()
