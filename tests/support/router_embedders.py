"""Engines that embed: a text's embedding follows from the text, so a mix-up shows."""

import base64
import json
import struct

from router_engines import Call, answer, behaviour

POISON = "poison"


def embed(text: object, dimensions: int = 3) -> list[float]:
    """What an engine answers for a text, or for a list of token ids."""
    seed = json.dumps(text)
    return [float(len(seed) + i) + sum(map(ord, seed)) / 1024 for i in range(dimensions)]


def count_tokens(text: object) -> int:
    """As an engine counts them, which is not as the router estimates them."""
    return len(text) if isinstance(text, list) else 2 + len(str(text).split())


@behaviour
async def embeds(call: Call) -> None:
    """Answers while it is let go; refuses a call with a poisoned text, as vLLM would."""
    await call.engine.released.wait()
    await _embed(call)


async def _embed(call: Call) -> None:
    fields = call.fields
    given = fields["input"]
    texts = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    if any(isinstance(text, str) and POISON in text for text in texts):
        error = {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}
        await call.write(answer(json.dumps(error).encode(), "400 Bad Request"))
        return
    if any(str(text).startswith("bad_json") for text in texts):
        await call.write(answer(b'{"data": [{'))
        return
    if any(str(text).startswith("error_in_ok") for text in texts):
        await call.write(answer(b'{"error": {"message": "no"}}'))
        return
    dimensions = fields.get("dimensions") or 3
    assert isinstance(dimensions, int)
    vectors: list[object] = [embed(text, dimensions) for text in texts]
    if fields.get("encoding_format") == "base64":
        packed = [struct.pack(f"<{dimensions}f", *embed(text, dimensions)) for text in texts]
        vectors = [base64.b64encode(data).decode() for data in packed]
    tokens = sum(map(count_tokens, texts))
    body = {
        "id": "embd-engine",
        "object": "list",
        "created": 1700000000,
        "model": fields["model"],
        "data": [
            {"index": i, "object": "embedding", "embedding": vector}
            for i, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    await call.write(answer(json.dumps(body).encode()))


def _has_several(call: Call) -> bool:
    given = call.fields["input"]
    return isinstance(given, list) and len(given) > 1


async def _refuse(call: Call, extra: str = "") -> None:
    """As TEI does when its queue has no room for the texts of a call."""
    body = {"message": "Model is overloaded", "code": 429, "type": "overloaded"}
    await call.write(answer(json.dumps(body).encode(), "429 Too Many Requests", extra))


async def _comply(call: Call) -> None:
    call.engine.released.set()
    if "input" in call.fields:
        await embeds(call)
    else:
        await call.write(answer())


@behaviour
async def fails_several(call: Call) -> None:
    """Works for one text at a time, and fails with several."""
    if _has_several(call):
        await call.write(answer(b"{}", "503 Service Unavailable"))
    else:
        await _comply(call)


@behaviour
async def full_for_several(call: Call) -> None:
    """Has room for one text at a time, and for several when it is let go."""
    if _has_several(call) and not call.engine.released.is_set():
        await _refuse(call)
    else:
        await _embed(call)


@behaviour
async def refuses_as_tei(call: Call) -> None:
    """Says what TEI says of a text that is too long, on either kind of route."""
    said: dict[str, object] = {"error": "too long", "error_type": "Validation"}
    if call.request.path == "/v1/embeddings":
        said = {"message": "too long", "code": 413, "type": "Validation"}
    extra = "x-compute-tokens: 7\r\n"
    await call.write(answer(json.dumps(said).encode(), "413 Payload Too Large", extra))


@behaviour
async def full(call: Call) -> None:
    """Has no room until it is let go."""
    if call.engine.released.is_set():
        await _comply(call)
    else:
        await _refuse(call)


@behaviour
async def full_twice(call: Call) -> None:
    """Has no room for the first two calls."""
    if len(call.engine.requests) > 2:
        await _comply(call)
    else:
        await _refuse(call)


@behaviour
async def full_for_a_second(call: Call) -> None:
    """Has no room for the first call, and says how long."""
    if len(call.engine.requests) > 1:
        await _comply(call)
    else:
        await _refuse(call, "Retry-After: 1\r\n")


@behaviour
async def full_for_many(call: Call) -> None:
    """Works while it is let go, but has no room for the first call of several texts."""
    await call.engine.released.wait()
    calls = [(r, json.loads(r.body)["input"]) for r in call.engine.requests]
    several = [r for r, given in calls if isinstance(given, list) and len(given) > 1]
    if several and call.request is several[0]:
        await _refuse(call)
    else:
        await _comply(call)
