"""Lists, loads and unloads the LoRA adapters of an engine over HTTP, by vLLM's calls.

The engine keeps in memory what it was told: after a restart it has none.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from sagepool_crds.pool import EngineType
from sagepool_engines.dialects import DIALECTS, UnexpectedAnswerError

_MOST_WORDS: Final = 400


class AdapterError(Exception):
    """An engine has not done what it was asked; the message is in its own words, if it has any."""


async def list_adapters(
    client: httpx.AsyncClient, engine: EngineType, url: str
) -> Mapping[str, str]:
    """The adapters that the engine has: name to the path or hub name that it was loaded from.

    Raises:
        AdapterError: it does not say.
    """
    dialect = DIALECTS[engine]
    answer = await _send(client, "GET", url + dialect.facts_path)
    try:
        return dict(dialect.read_facts(answer.json()).adapters)
    except (ValueError, UnexpectedAnswerError) as error:
        raise AdapterError(f"its list of models cannot be read: {error}") from error


async def load_adapter(
    client: httpx.AsyncClient,
    url: str,
    name: str,
    path: str,
    *,
    in_place: bool,
    limit_s: float,
) -> None:
    """Have the engine load an adapter; `in_place`: instead of the one of that name.

    Raises:
        AdapterError: it has not been loaded within `limit_s` seconds.
    """
    body = {"lora_name": name, "lora_path": path, "load_inplace": in_place}
    await _send(client, "POST", f"{url}/v1/load_lora_adapter", json=body, timeout=limit_s)


async def unload_adapter(client: httpx.AsyncClient, url: str, name: str) -> None:
    """Have the engine forget an adapter; what it computes with it already goes on.

    Raises:
        AdapterError: the adapter may be there still.
    """
    await _send(client, "POST", f"{url}/v1/unload_lora_adapter", json={"lora_name": name})


async def _send(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> httpx.Response:
    try:
        answer = await client.request(method, url, **options)
    except httpx.TimeoutException:
        raise AdapterError("the engine does not answer in time") from None
    except httpx.HTTPError as error:
        words = str(error) or type(error).__name__
        raise AdapterError(f"the engine cannot be reached: {words}") from error
    if answer.status_code != 200:
        raise AdapterError(_words(answer))
    return answer


def _words(answer: httpx.Response) -> str:
    """What the engine says is wrong."""
    try:
        said = str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"the engine answers {answer.status_code} to {answer.url.path}"
    return f"the engine says: {' '.join(said.split())[:_MOST_WORDS]}"
