"""Asks routers which instances they send to, while somebody waits for the answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp, NotAnsweredError
from sagepool_operator.routability.answers import Answers, RouterAnswer
from sagepool_operator.router_pods import RouterPod

_INTERVAL_S: Final = 0.25


class _Routable(BaseModel):
    """A router's answer; what a later router says besides is none of ours."""

    model_config = ConfigDict(extra="ignore")

    instances: frozenset[str]


@dataclass
class _Followed:
    """A pool whose routers are asked."""

    routers: Sequence[RouterPod]
    task: asyncio.Task[None] | None = None
    answers: Answers = field(default_factory=dict)


class RouterTables:
    """Keeps the last answer of each router of the pools that it follows.

    Args:
        http: asks the routers.
        wake: called with a pool whose routers say something new.
        sleep: passes the time between two rounds.
    """

    def __init__(
        self,
        http: EngineHttp,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._wake = wake
        self._sleep = sleep
        self._pools: dict[PoolKey, _Followed] = {}

    def answers(self, pool: PoolKey) -> Answers:
        """What the pool's routers have said; empty when they are not asked."""
        followed = self._pools.get(pool)
        return followed.answers if followed is not None else {}

    def follow(self, pool: PoolKey, routers: Sequence[RouterPod]) -> None:
        """Ask these routers of the pool from now on, and no others; none: ask no more."""
        followed = self._pools.get(pool)
        if followed is not None and routers:
            followed.routers = routers
        elif followed is not None:
            del self._pools[pool]
            if followed.task is not None:
                followed.task.cancel()
        elif routers:
            followed = self._pools[pool] = _Followed(routers)
            followed.task = asyncio.create_task(self._ask_all(pool, followed), name=f"ask {pool}")

    async def close(self) -> None:
        """Stop asking."""
        tasks = [f.task for f in self._pools.values() if f.task is not None]
        self._pools.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_all(self, pool: PoolKey, followed: _Followed) -> None:
        while True:
            routers = followed.routers
            said = await asyncio.gather(*(self._ask(router) for router in routers))
            answers = {router.uid: answer for router, answer in zip(routers, said, strict=True)}
            if answers != followed.answers:
                followed.answers = answers
                self._wake(pool)
            await self._sleep(_INTERVAL_S)

    async def _ask(self, router: RouterPod) -> RouterAnswer:
        url = f"{router.url}/admin/routable"
        try:
            answer = await self._http.get(url)
            if answer.status != 200:
                return RouterAnswer(error=f"{url} answers {answer.status}")
            return RouterAnswer(_Routable.model_validate_json(answer.body).instances)
        except NotAnsweredError as error:
            what = "does not answer in time" if error.is_late else f"cannot be reached: {error}"
            return RouterAnswer(error=f"{url} {what}")
        except ValidationError:
            return RouterAnswer(error=f"{url} does not answer as a router does")
