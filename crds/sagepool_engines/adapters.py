"""Lists, loads and unloads the LoRA adapters of an engine over HTTP, by vLLM's calls.

The engine keeps in memory what it was told: after a restart it has none.
"""

import json
from collections.abc import Awaitable, Mapping
from typing import Final
from urllib.parse import urlsplit

from sagepool_crds.pool import EngineType
from sagepool_engines.dialects import DIALECTS, UnexpectedAnswerError
from sagepool_engines.http import Answer, EngineHttp, NotAnsweredError

_MOST_WORDS: Final = 400


class AdapterError(Exception):
    """An engine has not done what it was asked; the message is in its own words, if it has any."""


async def list_adapters(http: EngineHttp, engine: EngineType, url: str) -> Mapping[str, str]:
    """The adapters that the engine has: name to the path or hub name that it was loaded from.

    Raises:
        AdapterError: it does not say.
    """
    dialect = DIALECTS[engine]
    facts_url = url + dialect.facts_path
    answer = await _answered(facts_url, http.get(facts_url))
    try:
        return dict(dialect.read_facts(json.loads(answer.body)).adapters)
    except (ValueError, UnexpectedAnswerError) as error:
        raise AdapterError(f"its list of models cannot be read: {error}") from error


async def load_adapter(
    http: EngineHttp, url: str, name: str, path: str, *, in_place: bool, limit_s: float
) -> None:
    """Have the engine load an adapter; `in_place`: instead of the one of that name.

    Raises:
        AdapterError: it has not been loaded within `limit_s` seconds.
    """
    url += "/v1/load_lora_adapter"
    body = {"lora_name": name, "lora_path": path, "load_inplace": in_place}
    await _answered(url, http.post(url, body, limit_s=limit_s))


async def unload_adapter(http: EngineHttp, url: str, name: str) -> None:
    """Have the engine forget an adapter; what it computes with it already goes on.

    Raises:
        AdapterError: the adapter may be there still.
    """
    url += "/v1/unload_lora_adapter"
    await _answered(url, http.post(url, {"lora_name": name}))


async def _answered(url: str, call: Awaitable[Answer]) -> Answer:
    try:
        answer = await call
    except NotAnsweredError as error:
        if error.is_late:
            raise AdapterError("the engine does not answer in time") from error
        raise AdapterError(f"the engine cannot be reached: {error}") from error
    if answer.status != 200:
        raise AdapterError(_words(url, answer))
    return answer


def _words(url: str, answer: Answer) -> str:
    """What the engine says is wrong."""
    try:
        said = str(json.loads(answer.body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"the engine answers {answer.status} to {urlsplit(url).path}"
    return f"the engine says: {' '.join(said.split())[:_MOST_WORDS]}"
