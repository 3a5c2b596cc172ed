"""Requests for a router in memory, right ones and wrong ones, each with its name in its body."""

import json
from random import Random

from router_keys import bearer
from router_memory_client import Request
from router_requests import FORM_TYPE, form

KEYS = ("free", "narrow", "bound")
ALIASES = {"chat": "chat", "nickname": "chat", "embedder": "embedder"}
"""Names of models as clients send them, and as engines know them."""
_TEXT_ROUTES = ("/v1/completions", "/v1/responses", "/v1/messages", "/tokenize")


def make_request(random: Random, name: str, is_keyed: bool) -> Request:
    """One of all the kinds that there are."""
    make = random.choices(
        (_chat, make_embedding, _text, _rerank, _form, _of_app, _wrong, _unreadable),
        (40, 40, 8, 4, 4, 4, 8, 2),
    )[0]
    return make(random, name, is_keyed)


def _chat(random: Random, name: str, is_keyed: bool) -> Request:
    model = random.choice(("chat", "chat", "nickname"))
    content = name + " word" * random.choice((0, 0, 400))
    fields: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
    }
    if random.random() < 0.5:
        fields["stream"] = True
    return _post(random, name, "/v1/chat/completions", fields, is_keyed)


def make_embedding(random: Random, name: str, is_keyed: bool) -> Request:
    """One that may travel together with others."""
    count = random.choice((1, 1, 1, 2, 3, 9, 40))
    texts = tuple(f"{name} text {number}" for number in range(count))
    is_base64 = random.random() < 0.2
    fields: dict[str, object] = {"model": "embedder", "input": texts if count > 1 else texts[0]}
    if is_base64:
        fields["encoding_format"] = "base64"
    if random.random() < 0.05:
        fields["encoding_format"] = "binary"  # such a request travels alone, whatever its size
    return _post(random, name, "/v1/embeddings", fields, is_keyed, texts=texts, is_base64=is_base64)


def _text(random: Random, name: str, is_keyed: bool) -> Request:
    path = random.choice(_TEXT_ROUTES)
    field = {"/v1/responses": "input", "/v1/messages": "messages"}.get(path, "prompt")
    given = [{"role": "user", "content": name}] if field == "messages" else name
    return _post(random, name, path, {"model": "chat", field: given}, is_keyed)


def _rerank(random: Random, name: str, is_keyed: bool) -> Request:
    fields: dict[str, object] = {"model": "embedder", "query": name, "documents": ["a", "b"]}
    return _post(random, name, "/v1/rerank", fields, is_keyed)


def _form(random: Random, name: str, is_keyed: bool) -> Request:
    model = random.choice((b"chat", b"nickname"))
    body = form(('"model"', model), ('"file"; filename="a.wav"', name.encode()))
    path = "/v1/audio/transcriptions"
    return _write(random, name, path, body, is_keyed, model="chat", content_type=FORM_TYPE.decode())


def _of_app(random: Random, name: str, is_keyed: bool) -> Request:
    path = random.choice(("/health", "/echo"))
    return _write(random, name, path, b"x" * random.choice((0, 50)), is_keyed, model="")


def _wrong(random: Random, name: str, is_keyed: bool) -> Request:
    """Refused by the router, whatever the pool has."""
    messages = [{"role": "user", "content": name}]
    path, fields = random.choice(
        (
            ("/v1/chat/completions", {"model": "chat"}),
            ("/v1/chat/completions", {"model": "nobody's", "messages": messages}),
            ("/v1/chat/completions", {"model": "embedder", "messages": messages}),
            ("/v1/chat/completions", {"messages": messages}),
            ("/v1/embeddings", {"model": "embedder", "input": []}),
            ("/v1/embeddings", {"model": "chat", "input": name}),
            ("/v1/completions", {"model": "chat", "prompt": name, "temperature": 9}),
            ("/v1/embeddings", {"model": "embedder", "input": "x" * 30_000}),
            ("/v1/chat/completions", "no object"),
        )
    )
    return _post(random, name, path, fields, is_keyed, is_valid=False)


def _unreadable(random: Random, name: str, is_keyed: bool) -> Request:
    """No HTTP, or none that the router speaks."""
    raw = random.choice(
        (
            b"nonsense\r\n\r\n",
            b"GET /v1/embeddings HTTP/1.1\r\nhost: router\r\n\r\n",
            b"POST /v1/embeddings HTTP/1.1\r\nhost: router\r\n\r\n",
            b"POST /v1/embeddings HTTP/1.1\r\nhost: router\r\nlong: %b\r\n\r\n" % (b"x" * 40_000),
        )
    )
    return Request(name, "", raw, is_valid=False)


def _post(
    random: Random,
    name: str,
    path: str,
    fields: object,
    is_keyed: bool,
    *,
    texts: tuple[str, ...] = (),
    is_base64: bool = False,
    is_valid: bool = True,
) -> Request:
    model = ALIASES.get(fields.get("model", ""), "") if isinstance(fields, dict) else ""
    body = json.dumps(fields).encode()
    return _write(
        random,
        name,
        path,
        body,
        is_keyed,
        model=model,
        texts=texts,
        is_base64=is_base64,
        is_valid=is_valid,
    )


def _write(
    random: Random,
    name: str,
    path: str,
    body: bytes,
    is_keyed: bool,
    *,
    content_type: str = "application/json",
    **facts: object,
) -> Request:
    version = "1.0" if random.random() < 0.08 else "1.1"
    lines = [f"POST {path} HTTP/{version}", "host: router", f"x-request-id: {name}"]
    lines.append(f"content-type: {content_type}")
    lines += _own_fields(random)
    if is_keyed:
        lines += random.choice(([bearer(random.choice(KEYS))],) * 9 + ([], [bearer("nobody")]))
    if random.random() < 0.1:
        lines.append("connection: close")
    if random.random() < 0.05:
        lines.append("expect: 100-continue")
    if version == "1.1" and random.random() < 0.1:
        lines.append("transfer-encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:9], body[9:]) if p)
        body += b"0\r\n\r\n"
    else:
        lines.append(f"content-length: {len(body)}")
    head = "\r\n".join((*lines, "\r\n")).encode()
    return Request(name, path, head + body, **facts)


def _own_fields(random: Random) -> list[str]:
    lines = []
    if random.random() < 0.15:
        lines.append(f"x-sagepool-deadline-ms: {random.choice((1, 100, 2000))}")
    if random.random() < 0.2:
        lines.append(f"x-sagepool-priority: {random.choice(('critical', 'high', 'background'))}")
    if random.random() < 0.2:
        lines.append(f"x-session-id: {random.choice('abc')}")
    if random.random() < 0.05:
        lines.append(f"x-sagepool-budget: {random.choice(('0', '0.001', '10'))}")
    return lines
