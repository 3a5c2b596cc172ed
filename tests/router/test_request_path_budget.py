"""What a request may cost: a budget in bytecodes, so that cost does not creep in.

Time is not measured here (`make bench` does that): what is counted is the same on every machine.
"""

import sys
from collections.abc import Callable
from typing import Final

import pytest

from compiled import IS_COMPILED
from router_costs import Cost, RequestPath, count

CHAT: Final = b"/v1/chat/completions"
TEXT: Final = "x" * 200
ANSWER: Final = (
    b'{"id":"x","choices":[{"message":{"content":"hello"}}],'
    b'"usage":{"prompt_tokens":50,"completion_tokens":2,"total_tokens":52}}'
)
EMBEDDED: Final = (
    b'{"object":"list","data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":9}}'
)
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
WORD: Final = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'
EVENT: Final = b"%x\r\n%b\r\n" % (len(WORD), WORD)


def chat(path: RequestPath) -> Callable[[], None]:
    def step() -> None:
        messages = [{"role": "user", "content": TEXT}]
        engine = path.ask(CHAT, model="ok", messages=messages, max_tokens=64)
        engine.data_received(OK % (len(ANSWER), ANSWER))
        path.clock.advance(0.001)

    return step


def embedding(path: RequestPath) -> Callable[[], None]:
    def step() -> None:
        engine = path.ask(b"/v1/embeddings", model="embedder", input=TEXT)
        engine.data_received(OK % (len(EMBEDDED), EMBEDDED))
        path.clock.advance(0.001)

    return step


def stream(path: RequestPath) -> Callable[[], None]:
    def step() -> None:
        messages = [{"role": "user", "content": TEXT}]
        engine = path.ask(CHAT, model="ok", messages=messages, stream=True)
        engine.data_received(STREAM + EVENT)
        engine.data_received(b"0\r\n\r\n")
        path.clock.advance(0.001)

    return step


def chunk(path: RequestPath) -> Callable[[], None]:
    engine = path.ask(CHAT, model="ok", messages=[{"role": "user"}], stream=True)
    engine.data_received(STREAM + EVENT)
    return lambda: engine.data_received(EVENT)


BUDGET: Final = {
    chat: Cost(3547, 106),
    embedding: Cost(3857, 119),
    stream: Cost(3637, 113),
    chunk: Cost(114, 3),
}
"""Of a request, the last one of a part of a stream; on Python 3.11."""
_MARGIN: Final = 1.05


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other bytecodes, another count")
@pytest.mark.skipif(IS_COMPILED, reason="compiled, it has no bytecodes")
@pytest.mark.parametrize("make", BUDGET)
async def test_a_request_keeps_to_its_budget(
    make: Callable[[RequestPath], Callable[[], None]],
) -> None:
    name, cost, budget = make.__name__, count(make(RequestPath())), BUDGET[make]
    if cost.bytecodes > _MARGIN * budget.bytecodes or cost.calls > _MARGIN * budget.calls:
        pytest.fail(
            f"{name} takes {cost.bytecodes:.0f} bytecodes and {cost.calls:.0f} calls, its budget "
            f"is {budget.bytecodes:.0f} and {budget.calls:.0f}. Take what has been added off the "
            "request path, or raise the budget in this file and say in the commit what it is "
            f"worth. The dearest functions, by bytecodes and calls:\n{cost.dearest}",
            pytrace=False,
        )
    if cost.bytecodes < budget.bytecodes / _MARGIN:
        pytest.fail(f"{name} takes {cost.bytecodes:.0f} bytecodes: lower its budget", pytrace=False)
