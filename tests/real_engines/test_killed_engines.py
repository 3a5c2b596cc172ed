"""vLLM is killed in the middle of a stream."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from real_engine_process import EngineProcess
from real_pair import Pair
from router_process import RouterProcess, file_router
from simulator_server import serving

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]

CHAT: Final[dict[str, Any]] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
LONG: Final[dict[str, Any]] = {**CHAT, "stream": True, "max_tokens": 2000, "ignore_eos": True}
WAYS: Final = pytest.mark.parametrize(
    "kill", [EngineProcess.kill_server, EngineProcess.kill_core], ids=["server", "core"]
)


async def events_until_the_end(
    router: RouterProcess, interrupt: Callable[[], None]
) -> list[dict[str, Any]]:
    """The events of a stream that is interrupted after the first letters."""
    events: list[dict[str, Any]] = []
    path = f"{router.url}/v1/chat/completions"
    async with router.client.stream("POST", path, json=LONG) as answer:
        assert answer.status_code == 200
        with suppress(httpx.RemoteProtocolError):  # it ends as what it is: unfinished
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if len(events) == 5:
                        interrupt()
    return events


@WAYS
async def test_its_stream_ends_with_an_error_and_it_gets_no_more_until_it_is_back(
    running: Pair, tmp_path: Path, kill: Callable[[EngineProcess], None]
) -> None:
    async with file_router(running.write_pool(tmp_path / "pool.yaml")) as router:
        await router.until_instances(chat=True, text=True)
        *letters, last = await events_until_the_end(router, lambda: kill(running.chat))
        assert 5 <= len(letters) < 2000
        assert last["error"].keys() == {"message", "type", "param", "code"}
        await router.until_instances(chat=False, text=True)
        refused = await router.client.post(f"{router.url}/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["code"] == "no_instance"
        running.start()
        await router.until_instances(chat=True, text=True)
        answer = await router.client.post(f"{router.url}/v1/chat/completions", json=CHAT)
        assert answer.status_code == 200
        assert answer.headers["x-sagepool-instance"] == "chat"


@WAYS
async def test_where_there_is_another_no_later_request_notices(
    running: Pair, tmp_path: Path, kill: Callable[[EngineProcess], None]
) -> None:
    path = running.write_pool(tmp_path / "pool.yaml")
    async with file_router(path) as router, serving(models=(("chat", "llm"),)) as spare:
        await router.until_instances(chat=True, text=True)
        url = f"{router.url}/v1/chat/completions"
        async with router.client.stream("POST", url, json=LONG) as stream:
            assert stream.headers["x-sagepool-instance"] == "chat"
            running.write_pool(path, spare=spare)
            await router.until_instances(chat=True, spare=True, text=True)
            kill(running.chat)
            later = [await router.client.post(url, json=CHAT) for _ in range(20)]
        assert [answer.status_code for answer in later] == [200] * 20
