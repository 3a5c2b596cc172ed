"""Engines that a function plays: the test's answers in the place of a network."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, TypeAlias

import httpx

from sagepool_engines.http import Answer, NotAnsweredError

Play: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response] | httpx.Response]
"""Takes what is asked; raises one of httpx's errors where there is no answer."""


class PlayedEngines:
    """Asks a function (an EngineHttp)."""

    def __init__(self, play: Play) -> None:
        self._play = play

    async def get(self, url: str) -> Answer:
        return await self._ask(httpx.Request("GET", url))

    async def post(
        self, url: str, body: Mapping[str, Any], *, limit_s: float | None = None
    ) -> Answer:
        return await self._ask(httpx.Request("POST", url, json=dict(body)))

    async def _ask(self, request: httpx.Request) -> Answer:
        try:
            response = self._play(request)
            if isawaitable(response):
                response = await response
        except httpx.TimeoutException as error:
            raise NotAnsweredError("no answer in time", is_late=True) from error
        except httpx.HTTPError as error:
            is_refused = isinstance(error, httpx.ConnectError)
            raise NotAnsweredError(str(error), is_refused=is_refused) from error
        return Answer(response.status_code, response.content)
