"""Asks a server what it serves.

That something answers says nothing: a proxy, a console or another team's service does so too. A
server counts for a kind of requests if its list of models says so (a sagepool router's), if it is
Text Embeddings Inference by its `/info`, or, for lists without roles (vLLM's and most others'), if
it answers a request of that kind for one token or one short text.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from sagepool.answers import WireAnswer, WireEmbeddings, WireModel, WireModels
from sagepool.catalog import Served, models_of
from sagepool.endpoints import Endpoint, Kind

LIST_LIMIT_S: Final = 2.0
"""For saying what it serves: a server on this machine or in this cluster takes milliseconds."""
TRIAL_LIMIT_S: Final = 5.0
"""For one token or one text: an engine under load takes longer than for its list."""
_TRIED_MODELS: Final = 3
"""Of a list without roles, at most."""
_TEXT: Final = "sagepool probe"

_F = TypeVar("_F", bound=BaseModel)


class NotServingError(Exception):
    """Nothing to send requests to; the message says what is there instead."""


class KeyWantedError(NotServingError):
    """A server that answers 401 or 403."""


class _TeiInfo(BaseModel):
    """`/info` of Text Embeddings Inference 1.9 (`router/src/lib.rs`, Info)."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str
    model_type: Mapping[str, Any]


async def ask_what_is_served(endpoint: Endpoint) -> Served:
    """Ask one server; every step has a limit of seconds.

    Raises:
        NotServingError: nothing listens, or it serves no models.
        ConfigurationError: the endpoint's API key cannot be sent.
    """
    async with httpx.AsyncClient(
        headers=endpoint.authorization, trust_env=endpoint.uses_proxy, timeout=LIST_LIMIT_S
    ) as client:
        try:
            async with asyncio.timeout(LIST_LIMIT_S):
                listed = await _list_models(client, endpoint.base_url)
                if isinstance(listed, Served):
                    return listed
        except (TimeoutError, httpx.TimeoutException):
            raise NotServingError(f"does not answer within {LIST_LIMIT_S:g} s") from None
        except httpx.ConnectError:
            raise NotServingError("nothing listens there") from None
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise NotServingError(f"answers, but not in HTTP as it should: {words}") from None
        if not listed:
            raise NotServingError("lists no models")
        return await _sort_by_kind(client, endpoint.base_url, listed)


async def _list_models(client: httpx.AsyncClient, base_url: str) -> list[WireModel] | Served:
    answer = await client.get(f"{base_url}/models")
    if answer.status_code in (401, 403):
        raise KeyWantedError("wants an API key: set SAGEPOOL_API_KEY")
    if answer.status_code == 404:
        info = _read(_TeiInfo, await client.get(urljoin(base_url, "/info")))
        if info is not None:
            embeds = "embedding" in info.model_type
            return Served({"embedding": (info.model_id,)} if embeds else {}, takes_any_name=True)
    models = _read(WireModels, answer)
    if models is None:
        raise NotServingError(
            f"something answers ({answer.status_code}), but not with a list of models"
        )
    return models.data


async def _sort_by_kind(
    client: httpx.AsyncClient, base_url: str, listed: Sequence[WireModel]
) -> Served:
    owners = frozenset(model.owned_by for model in listed if model.owned_by is not None)
    told = [model for model in listed if model.role is not None]
    if told:
        kinds: tuple[Kind, Kind] = ("llm", "embedding")
        return Served({k: m for k in kinds if (m := models_of(told, k))}, owners=owners)
    tried = [model.id for model in listed[:_TRIED_MODELS]]
    # all at once, so that one that hangs costs the limit once
    chats, embeds = await asyncio.gather(
        asyncio.gather(*(_chats(client, base_url, name) for name in tried)),
        asyncio.gather(*(_embeds(client, base_url, name) for name in tried)),
    )
    found: dict[Kind, Sequence[str]] = {}
    if any(chats):
        found["llm"] = [name for name, does in zip(tried, chats, strict=True) if does]
    if any(embeds):
        found["embedding"] = [name for name, does in zip(tried, embeds, strict=True) if does]
    if not found:
        raise NotServingError(
            f"lists {', '.join(tried)}, but answers neither a chat nor an embedding"
        )
    return Served(found, owners=owners)


async def _chats(client: httpx.AsyncClient, base_url: str, model: str) -> bool:
    body = {"model": model, "messages": [{"role": "user", "content": _TEXT}], "max_tokens": 1}
    answer = await _try(client, f"{base_url}/chat/completions", body, WireAnswer)
    return answer is not None and bool(answer.choices)


async def _embeds(client: httpx.AsyncClient, base_url: str, model: str) -> bool:
    body = {"model": model, "input": [_TEXT]}
    answer = await _try(client, f"{base_url}/embeddings", body, WireEmbeddings)
    return answer is not None and bool(answer.data)


async def _try(
    client: httpx.AsyncClient, url: str, body: Mapping[str, Any], form: type[_F]
) -> _F | None:
    try:
        async with asyncio.timeout(TRIAL_LIMIT_S):
            return _read(form, await client.post(url, json=body, timeout=TRIAL_LIMIT_S))
    except (TimeoutError, httpx.HTTPError):
        return None


def _read(form: type[_F], answer: httpx.Response) -> _F | None:
    if answer.status_code != 200:
        return None
    try:
        return form.model_validate_json(answer.content)
    except ValidationError:
        return None
