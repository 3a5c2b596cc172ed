"""Rules that a request has to keep, each with the code of its refusal. Pure.

Checked is what an engine would answer late or unclearly; everything else is the engine's
business.
"""

import re
from typing import Final

import msgspec

from sagepool_router import estimates
from sagepool_router.bodies import UNREADABLE, SamplingBody, read_items, read_other
from sagepool_router.errors import InvalidRequest

_FIELD: Final = re.compile(r"`\$\.(\w+)")
"""How msgspec names the field that it could not read."""

MAX_TEXTS: Final = 2048
"""Texts of one request to embed, as at OpenAI."""
_SPACES: Final = tuple(c for c in map(chr, range(0x3001)) if c.isspace())
_SPACE: Final = b"|".join(
    (
        *(re.escape(c.encode()) for c in _SPACES if c >= " "),
        *(rb"\\u%04x" % ord(c) for c in _SPACES),
        rb"\\[tnrf]",
    )
)
_BLANK: Final = re.compile(rb'"(?:%b)*+"|\[\s*+\]' % _SPACE, re.IGNORECASE)
"""A text without content as JSON may write it, or no token ids."""
_INPUT: Final = re.compile(
    rb'(?P<blank>"(?:%b)*+"\Z)|(?P<text>")|\[\s*+(?P<item>.)' % _SPACE, re.IGNORECASE | re.DOTALL
)


def is_null(given: msgspec.Raw) -> bool:
    """Whether a field is absent or null."""
    return len(given) <= 4 and bytes(given) in (b"", b"null")


def is_given(given: msgspec.Raw) -> bool:
    """Whether a field holds something: not null, not an empty text, not an empty list."""
    return len(given) > 4 or bytes(given) not in (b"", b"null", b'""', b"[]")


def check_sampling(body: SamplingBody, name: str = "", value: object = None) -> int | None:
    """The most tokens to be written, if that is limited.

    Args:
        body: what is checked.
        name: a field that limits them too and wins over max_tokens.
        value: of that field.
    """
    limit = None
    if body.max_tokens is not None:
        limit = _check_max_tokens("max_tokens", body.max_tokens)
    if value is not None:
        limit = _check_max_tokens(name, value)
    temperature = body.temperature
    if temperature is not None and not _is_between(temperature, 0, 2):
        raise wrong("invalid_temperature", "temperature", "must be a number from 0 to 2")
    top_p = body.top_p
    if top_p is not None and not _is_between(top_p, 0, 1):
        raise wrong("invalid_top_p", "top_p", "must be a number from 0 to 1")
    return limit


def check_texts(given: msgspec.Raw) -> tuple[int, int]:
    """How many texts there are to embed and how many tokens they are.

    It is one text, a list of texts, one list of token ids or a list of those.
    """
    found = _INPUT.match(given)
    if found is None:
        raise missing_texts()
    if found["text"]:
        return 1, estimates.count_text_tokens(len(given) - 2)
    item = found["item"]
    if item is None:
        raise _blank()
    if item == b"]":
        raise wrong("empty_embedding_texts", "input", "must hold at least one text")
    if item.isdigit():
        return 1, estimates.count_ids(given)
    texts = read_items(given)
    if any(map(_BLANK.fullmatch, texts)):
        raise _blank()
    count = len(texts)
    if count > MAX_TEXTS:
        raise wrong(
            "too_many_embedding_texts", "input", f"must hold at most {MAX_TEXTS} texts: split it"
        )
    if item == b"[":
        return count, estimates.count_ids(given)
    return count, max(count, estimates.count_text_tokens(sum(map(len, texts)) - 2 * count))


def missing_model() -> InvalidRequest:
    """The request names no model."""
    return wrong("missing_model", "model", "must name a model (GET /v1/models lists them)")


def missing_messages() -> InvalidRequest:
    """The request has no conversation."""
    return wrong("missing_messages", "messages", "must be a list of messages")


def missing_texts() -> InvalidRequest:
    """The request has nothing to embed."""
    return wrong("missing_embedding_texts", "input", "must be a text or a list of texts")


def wrong(code: str, param: str, rule: str) -> InvalidRequest:
    """The refusal of a field or header that breaks a rule."""
    return InvalidRequest(f"{param} {rule}", code, param=param)


def unreadable(error: Exception, body: bytes) -> InvalidRequest:
    """The refusal of a body that is no JSON, or not of the form that it has to be.

    Args:
        error: what the decoder says.
        body: the whole body.
    """
    if isinstance(error, msgspec.ValidationError):
        return _wrong_type(error, body)
    if isinstance(error, RecursionError):
        return InvalidRequest("the body is nested too deeply", "invalid_json")
    return InvalidRequest(f"the body is not valid JSON: {error}", "invalid_json")


def _wrong_type(error: msgspec.ValidationError, body: bytes) -> InvalidRequest:
    field = _FIELD.search(str(error))
    if field is None:
        return InvalidRequest(f"the body must be a JSON object: {error}", "invalid_body")
    name = field[1]
    try:
        # the first rule, wherever in the body the fields stand
        has_model = name != "model" and bool(read_other(body).model)
    except msgspec.ValidationError:
        has_model = False
    except UNREADABLE as later:
        return unreadable(later, body)
    if not has_model:
        return missing_model()
    return InvalidRequest(
        f"{name} has the wrong type: {error}",
        "missing_messages" if name == "messages" else "invalid_body",
        param=name,
    )


def _check_max_tokens(name: str, value: object) -> int:
    if type(value) is int and value > 0:
        return value
    if type(value) is float and value > 0 and value.is_integer():
        return int(value)
    raise wrong("invalid_max_tokens", name, "must be a whole number above 0")


def _is_between(value: object, low: int, high: int) -> bool:
    return (type(value) is int or type(value) is float) and low <= value <= high


def _blank() -> InvalidRequest:
    return wrong("blank_embedding_text", "input", "holds a text without content")
