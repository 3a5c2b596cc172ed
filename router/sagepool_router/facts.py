"""What routing needs to know of a request: read from its route, head and body, and no more.

Pure. `classify` is the entry; beside it `endpoints` lists the routes, `bodies` says what is read
of each, `validation` judges it, `estimates` and `fingerprint` measure prompts.
"""

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import inf
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from sagepool_router import bodies, estimates, multipart, validation
from sagepool_router.bodies import Body
from sagepool_router.endpoints import ENDPOINTS, REQUEST_TYPES, Endpoint, Kind, RequestType
from sagepool_router.errors import InvalidRequest
from sagepool_router.fingerprint import fingerprints
from sagepool_router.request_head import RequestHead
from sagepool_router.validation import wrong

__all__ = [
    "ENDPOINTS",
    "MAX_DEADLINE_MS",
    "MAX_SESSION_LENGTH",
    "NORMAL",
    "PRIORITIES",
    "Endpoint",
    "Kind",
    "RequestFacts",
    "RequestType",
    "classify",
]

PRIORITIES: Final = MappingProxyType(
    {"critical": 0, "high": 1, "normal": 2, "low": 3, "background": 4}
)
"""Priorities by name; clients may send the number too."""
NORMAL: Final = PRIORITIES["normal"]
"""The priority of whom nothing else is said of."""
_AMOUNT: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,12})?")
MAX_DEADLINE_MS: Final = 24 * 3600 * 1000
"""The longest deadline that can be asked for."""
MAX_SESSION_LENGTH: Final = 256
"""A longer name of a session is replaced by its hash."""


class RequestFacts:
    """A valid request as routing sees it."""

    priority: int | None = None
    """None: the request does not say, so its API key's counts."""
    deadline_s: float | None = None
    """Time the client gives the whole request, from its arrival."""
    session: str | None = None
    """What belongs together, in the client's words."""
    budget: float = inf
    """What the request should cost at most, in the currency of the pool's prices."""

    def __init__(
        self,
        kind: Kind,
        body: Body,
        texts: int,
        prompt_tokens: int,
        max_tokens: int | None,
        request_type: RequestType,
    ) -> None:
        self.model: str = body.model
        self.kind: Kind = kind
        self.body = body
        """What was read of the body."""
        self.texts = texts
        """Texts to embed; 0 for all other kinds."""
        self.prompt_tokens = prompt_tokens
        """Estimated; exact for token ids."""
        self.max_tokens = max_tokens
        """The most tokens that the engine may write; None: the request does not say."""
        self.stream: bool = body.stream is True
        self.request_type: RequestType = request_type
        """What the request says of itself, else what its route says."""

    @property
    def fingerprints(self) -> list[int]:
        """Numbers of the prompt's beginnings, none without one: see `fingerprint.fingerprints`.

        Computed at every access: not all requests need it.
        """
        return fingerprints(self.body)


_Reading: TypeAlias = tuple[Body, int, int | None, int]
"""What was read, tokens of the prompt, most tokens of the answer, texts to embed."""


def classify(endpoint: Endpoint, body: bytes, head: RequestHead) -> RequestFacts:
    """Read the facts of a request; the first rule that it breaks is reported.

    Args:
        endpoint: the route.
        body: the whole body.
        head: the request's head.

    Raises:
        InvalidRequest: the body cannot be read, or body or head break a rule.
    """
    if endpoint.is_form:
        read, prompt_tokens, max_tokens, texts = _read_form(body, head.boundary)
    elif head.is_multipart:
        raise InvalidRequest(
            f"{endpoint.path.decode()} takes application/json, not multipart/form-data",
            "invalid_content_type",
            param="content-type",
        )
    else:
        try:
            read, prompt_tokens, max_tokens, texts = _READERS[endpoint.kind](body)
        except bodies.UNREADABLE as error:
            raise validation.unreadable(error, body) from None
    request_type = endpoint.request_type
    facts = RequestFacts(endpoint.kind, read, texts, prompt_tokens, max_tokens, request_type)
    if head.has_wishes:
        _read_wishes(facts, endpoint, head)
    if head.session is not None or read.user:
        facts.session = _session(head.session, read.user)
    return facts


def _read_wishes(facts: RequestFacts, endpoint: Endpoint, head: RequestHead) -> None:
    if head.priority is not None:
        facts.priority = _priority(head.priority)
    if head.deadline is not None:
        facts.deadline_s = _deadline_s(head.deadline)
    if head.request_type is not None:
        facts.request_type = _request_type(endpoint, head.request_type)
    if head.budget is not None:
        facts.budget = _budget(head.budget)


def _read_chat(body: bytes) -> _Reading:
    read = bodies.read_chat(body)
    if not read.model:
        raise validation.missing_model()
    messages = read.messages
    if not messages:
        raise validation.missing_messages()
    max_tokens = validation.check_sampling(
        read, "max_completion_tokens", read.max_completion_tokens
    )
    return read, estimates.count_chat_tokens(messages, len(read.tools)), max_tokens, 0


def _read_completion(body: bytes) -> _Reading:
    read = bodies.read_completion(body)
    if not read.model:
        raise validation.missing_model()
    prompt = read.prompt
    tokens = 0
    if validation.is_given(prompt):
        tokens = estimates.count_tokens(prompt)
    elif not validation.is_given(read.prompt_embeds):
        raise wrong("missing_prompt", "prompt", "must be a text or token ids")
    return read, tokens, validation.check_sampling(read), 0


def _read_response(body: bytes) -> _Reading:
    read = bodies.read_response(body)
    if not read.model:
        raise validation.missing_model()
    if not validation.is_given(read.input):
        raise wrong("missing_prompt", "input", "must be a text or a list of messages")
    tokens = estimates.count_tokens(read.input, len(read.instructions) + len(read.tools))
    max_tokens = validation.check_sampling(read, "max_output_tokens", read.max_output_tokens)
    return read, tokens, max_tokens, 0


def _read_message(body: bytes) -> _Reading:
    read = bodies.read_message(body)
    if not read.model:
        raise validation.missing_model()
    messages = read.messages
    if not messages:
        raise validation.missing_messages()
    tokens = estimates.count_chat_tokens(messages, len(read.system) + len(read.tools))
    return read, tokens, validation.check_sampling(read), 0


def _read_embedding(body: bytes) -> _Reading:
    read = bodies.read_embedding(body)
    if not read.model:
        raise validation.missing_model()
    if validation.is_null(read.input):
        if not read.messages:
            raise validation.missing_texts()
        return read, estimates.count_chat_tokens(read.messages), None, 1
    texts, tokens = validation.check_texts(read.input)
    return read, tokens, None, texts


def _read_other(body: bytes) -> _Reading:
    read = bodies.read_other(body)
    if not read.model:
        raise validation.missing_model()
    return read, estimates.count_text_tokens(len(body)), None, 0


def _read_form(body: bytes, boundary: bytes) -> _Reading:
    if not boundary:
        raise InvalidRequest(
            "the body must be multipart/form-data, with its boundary in content-type",
            "invalid_content_type",
            param="content-type",
        )
    fields = multipart.find_fields(body, boundary)
    begin, end = fields.get(b"model", (0, 0))
    try:
        model = body[begin:end].decode()
    except UnicodeDecodeError:
        model = ""
    if not model:
        raise validation.missing_model()
    begin, end = fields.get(b"stream", (0, 0))
    read = Body(model, body[begin:end].lower() in _TRUE)
    return read, estimates.count_sound_tokens(len(body)), None, 0


_READERS: Final[Mapping[Kind, Callable[[bytes], _Reading]]] = MappingProxyType(
    {
        "chat": _read_chat,
        "completion": _read_completion,
        "response": _read_response,
        "message": _read_message,
        "embedding": _read_embedding,
        "rerank": _read_other,
        "score": _read_other,
        "classification": _read_other,
        "pooling": _read_other,
        "tokenize": _read_other,
    }
)
_TRUE: Final = frozenset((b"true", b"1", b"on", b"yes"))
"""How a form says yes."""


def _priority(header: bytes) -> int:
    text = header.decode("latin-1").strip().lower()
    if text in PRIORITIES:
        return PRIORITIES[text]
    if text in ("0", "1", "2", "3", "4"):
        return int(text)
    names = ", ".join(PRIORITIES)
    raise wrong("invalid_priority", "x-sagepool-priority", f"must be one of {names}, or 0 to 4")


def _budget(header: bytes) -> float:
    # a pattern first: float() would take inf, nan, exponents and underscores
    if _AMOUNT.fullmatch(header.strip()):
        return float(header)
    raise wrong(
        "invalid_budget",
        "x-sagepool-budget",
        "must be an amount such as 0.002, in the currency of the pool's prices",
    )


def _deadline_s(header: bytes) -> float:
    text = header.strip()
    # isdigit first: int() would take signs, underscores and thousands of digits
    if text.isdigit() and len(text) <= 9 and 0 < int(text) <= MAX_DEADLINE_MS:
        return int(text) / 1000
    raise wrong(
        "invalid_deadline",
        "x-sagepool-deadline-ms",
        f"must be a whole number of milliseconds from 1 to {MAX_DEADLINE_MS}",
    )


def _request_type(endpoint: Endpoint, header: bytes) -> RequestType:
    text = header.decode("latin-1").strip().lower()
    for accepted in endpoint.accepted_types:
        if accepted == text:
            return accepted
    if text in REQUEST_TYPES:
        rule = f"is {text}: {endpoint.path.decode()} takes {', '.join(endpoint.accepted_types)}"
    else:
        rule = f"must be one of {', '.join(REQUEST_TYPES)}"
    raise wrong("conflicting_request_type", "x-sagepool-request-type", rule)


def _session(header: bytes | None, user: msgspec.Raw) -> str | None:
    """The session's name in the header, else the body's user."""
    name = "" if header is None else header.strip().decode("latin-1")
    if not name and user:
        try:
            name = bodies.read_text(user)
        except bodies.UNREADABLE:
            return None  # no text: the engine's business
    if len(name) > MAX_SESSION_LENGTH:
        return blake2b(name.encode(), digest_size=16).hexdigest()
    return name or None
