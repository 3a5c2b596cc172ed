"""Whether an answer is of its request and what an engine gave for it, or says why there is none."""

import json
from typing import Final

from router_memory_client import Answer, Client, Request, names_in
from router_memory_engine import Attempt, embed

REFUSALS: Final = frozenset(
    (
        (400, "conflicting_request_type"),
        (400, "empty_embedding_texts"),
        (400, "invalid_body"),
        (400, "invalid_http"),
        (400, "invalid_temperature"),
        (400, "missing_messages"),
        (400, "missing_model"),
        (401, "invalid_api_key"),
        (401, "missing_api_key"),
        (403, "model_not_allowed"),
        (404, "model_not_found"),
        (405, "method_not_allowed"),
        (408, "body_timeout"),
        (408, "head_timeout"),
        (411, "length_required"),
        (413, "body_too_large"),
        (429, "overloaded"),
        (429, "rate_limit_exceeded"),
        (431, "head_too_large"),
        (502, "engine_failed"),
        (502, "engine_unreachable"),
        (502, "malformed_answer"),
        (502, "other_embedding_space"),
        (502, "provider_refused"),
        (503, "instances_failing"),
        (503, "no_instance"),
        (503, "no_provider"),
        (503, "overloaded"),
        (503, "shutting_down"),
        (503, "suspended"),
        (504, "deadline_exceeded"),
        (504, "engine_timeout"),
        (504, "queue_timeout"),
        (504, "request_timeout"),
    )
)
NAMELESS: Final = frozenset(("invalid_http", "head_timeout", "head_too_large"))
"""Refusals of requests whose id was never read."""


def check_answer(client: Client, request: Request, answer: Answer, attempts: list[Attempt]) -> None:
    """An answer is of its request, and as an engine gave it, or says why there is none."""
    status, code = answer.error
    if request.is_for_app and status == 200:
        may_break = client.has_left or client.wire.lost_bytes
        said = request.name.encode()
        assert answer.body == said or (may_break and said.startswith(answer.body))
        return
    if code == "body_timeout" and request.is_for_app:
        return
    is_last = request is client.requests[-1]
    is_cut = client.unsent and is_last
    # a router that ends may not have read all of the last head
    is_unread = code == "shutting_down" and is_last and answer.ends_connection
    if code not in NAMELESS and request.path and not is_cut:
        name = answer.fields["x-request-id"]
        assert name == request.name or (is_unread and not names_in(name.encode()))
    if is_said(client, answer, attempts) or is_assembled(request, answer, attempts):
        return
    assert status >= 400
    is_frame = any(attempt.said_as_event(answer.body) for attempt in attempts)
    assert is_frame or (status, code) in REFUSALS or client.has_left or client.wire.lost_bytes


def is_said(client: Client, answer: Answer, attempts: list[Attempt]) -> bool:
    """It is what one engine said to this request alone, whole or visibly broken."""
    body, is_broken = answer.body, not answer.is_complete
    event = body.rfind(b'data: {"error":{"message":')
    if event >= 0:
        code = json.loads(body[event + 6 :])["error"]["code"]
        assert code in {code for _, code in REFUSALS}
        # what is broken off in the middle of an event is ended with an empty line
        body, is_broken = body[:event].removesuffix(b"\n\n"), True
    for attempt in attempts:
        if attempt.status != answer.status or not attempt.text.startswith(body):
            continue
        if answer.status < 400:
            assert len(attempt.names) == 1, "an answer to several"
            assert attempt is attempts[-1] or "embedder" in attempt.engine.name
        if is_broken:
            may_break = not attempt.is_whole or client.has_left or client.wire.lost_bytes
            assert may_break, "an answer that was complete is broken"
        else:
            if not attempt.is_whole or attempt.text != body:
                continue
        assert answer.fields["x-sagepool-instance"] == attempt.engine.name
        return True
    return False


def is_assembled(request: Request, answer: Answer, attempts: list[Attempt]) -> bool:
    """It holds the embeddings of the request's own texts, which came in one call or in several."""
    if not request.texts or answer.status != 200 or not answer.is_complete:
        return False
    data = json.loads(answer.body)["data"]
    assert [item["index"] for item in data] == list(range(len(request.texts)))
    wanted = [embed(text, is_base64=request.is_base64) for text in request.texts]
    assert [item["embedding"] for item in data] == wanted
    assert answer.fields["x-sagepool-instance"] in {a.engine.name for a in attempts}
    return True
