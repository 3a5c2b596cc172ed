"""Reads the config.json of models from the Hugging Face hub, once each.

Only those of groups that ask for it (gpu.memory). It reads no Secret: a gated model stays unknown.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import httpx

from sagepool_crds.meta import PoolKey
from sagepool_operator.fit import ModelConfig
from sagepool_operator.followed import Followed
from sagepool_operator.sizing import HubModel

_RETRY_S: Final = 600.0
_MAX_BYTES: Final = 2**20
_SCHEME: Final = "hf://"


class HubReader:
    """Keeps what is known of each model that is asked for, and wakes the pool that asked."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        hub_url: str,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take a client (its time-out bounds each call), the hub's address (empty: there is none),
        and who is told of news."""
        self._client = client
        self._hub_url = hub_url.rstrip("/")
        self._wake = wake
        self._sleep = sleep
        self._configs: Mapping[HubModel, ModelConfig | str] = MappingProxyType({})
        # What is known of a model stays: another pool may ask for it.
        self._followed: Followed[HubModel] = Followed(lambda pool, model: None)

    @property
    def configs(self) -> Mapping[HubModel, ModelConfig | str]:
        """What is known; for a model that could not be read, why not. The mapping never changes, a
        new one takes its place."""
        return self._configs

    def track(self, pool: PoolKey, models: Iterable[HubModel]) -> None:
        """Find out about these models for the pool, and about no others of it."""
        self._followed.track(pool, {m: partial(self._find, pool, m) for m in models})

    async def close(self) -> None:
        """Stop asking."""
        await self._followed.close()

    async def _find(self, pool: PoolKey, model: HubModel) -> None:
        told: ModelConfig | str | None = None
        while not isinstance(told, ModelConfig):
            known = self._configs.get(model)
            if not isinstance(known, ModelConfig):
                known = await read_config(self._client, self._hub_url, model)
                self._configs = MappingProxyType({**self._configs, model: known})
            if known != told:
                self._wake(pool)
            told = known
            if isinstance(known, str):
                await self._sleep(_RETRY_S)


async def read_config(
    client: httpx.AsyncClient, hub_url: str, model: HubModel
) -> ModelConfig | str:
    """A model's config.json, or why it cannot be read, in words."""
    if not hub_url:
        return "the operator may not ask a hub (SAGEPOOL_OPERATOR_HUB is none)"
    name, revision = model.uri.removeprefix(_SCHEME), model.revision or "main"
    url = f"{hub_url}/{name}/resolve/{quote(revision, safe='')}/config.json"
    try:
        async with client.stream("GET", url, follow_redirects=True) as answer:
            if answer.status_code != 200:
                return _refusal(answer.status_code, name, revision)
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    return f"its config.json on {hub_url} is larger than a megabyte"
    except httpx.HTTPError as error:
        return f"{hub_url} cannot be reached ({str(error) or type(error).__name__})"
    try:
        return ModelConfig.model_validate(json.loads(body))
    except ValueError:
        return "its config.json has not the form of a text model's"


def _refusal(status: int, name: str, revision: str) -> str:
    if status in (401, 403):
        return f"the hub asks for a token to show {name}, and the operator reads no Secret"
    if status == 404:
        what = f"config.json of {name} at {revision}"
        return f"the hub has no {what}: check the model's uri and revision"
    return f"the hub answers {status}"
