"""Requests as the classifier gets them, without sockets."""

import json

import pytest

from sagepool_router.errors import InvalidRequest
from sagepool_router.facts import ENDPOINTS, RequestFacts, classify
from sagepool_router.request_head import read_head

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
RESPONSE = "/v1/responses"
MESSAGE = "/v1/messages"
TRANSCRIPTION = "/v1/audio/transcriptions"
EMBEDDING = "/v1/embeddings"
MESSAGES = [{"role": "user", "content": "hello"}]
FORM_TYPE = b"multipart/form-data; boundary=B"


def read(path: str, body: object, **headers: bytes) -> RequestFacts:
    """The facts of a request; headers are named with underscores."""
    fields = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    head = read_head(path.encode(), b"POST", "1.1", fields)
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(ENDPOINTS[path.encode()], payload, head)


def refusal(path: str, body: object, **headers: bytes) -> InvalidRequest:
    """Why a request is refused, which it must be."""
    with pytest.raises(InvalidRequest) as caught:
        read(path, body, **headers)
    assert caught.value.status == 400
    return caught.value


def form(*fields: tuple[str, bytes], boundary: bytes = b"B") -> bytes:
    """A form; a field's name is followed by what else its part's head says."""
    parts = [
        b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n"
        % (boundary, name.encode(), value)
        for name, value in fields
    ]
    return b"".join((*parts, b"--%b--\r\n" % boundary))
