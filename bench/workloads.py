"""What is asked of every target: requests, pace, and how much of it."""

import json
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

CHAT_MODEL: Final = "bench-chat"
EMBEDDING_MODEL: Final = "bench-embed"

Unit: TypeAlias = Literal["request", "chunk", "stream"]


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of load.

    A closed loop, in which each client sends its next request after the answer; or an open one, in
    which requests are due at even distances, whatever the target does.
    """

    name: str
    title: str
    path: str
    body: bytes
    clients: int
    requests: int
    limit_s: float
    """No request is begun after this time, so that a slow target does not hold up the run."""
    unit: Unit = "request"
    """What CPU time is divided by."""
    events: int = 0
    """Events of each stream at least, its end included; 0: no stream, or one of any length."""
    lasts_s: float = 0.0
    """What a stream takes at the engine's pace."""
    hold_s: float = 0.0
    """How long all streams are held open together; they end when the engine is told."""
    share: float = 0.0
    """The part of what the target answers to `chat` that is asked for, in an open loop."""
    rate: float = 0.0
    """Requests due in a second; 0: a closed loop."""
    reads_per_s: int = 0
    """Bytes that a client reads in a second while streams are held; 0: as fast as it can."""

    @property
    def is_stream(self) -> bool:
        """Whether answers are event streams."""
        return self.unit != "request"

    def at(self, rate: float) -> "Workload":
        """The same in an open loop, with so many requests a second."""
        return replace(self, rate=rate, requests=max(1, int(rate * self.limit_s)))


def build_workloads(streams: int, *, quick: bool) -> tuple[Workload, ...]:
    """The workloads of a run; `streams` are held open at a time where memory is measured."""
    share = 0.25 if quick else 1.0
    limit_s = 1.0 if quick else 3.0
    events = 40 if quick else 100
    chat, half, *others = _requests(share, limit_s)
    return (chat, _paced(events), half, *others, _memory(streams, quick=quick))


def _requests(share: float, limit_s: float) -> tuple[Workload, ...]:
    return (
        Workload(
            name="chat",
            title="Chat: a prompt of 200 characters, answered at once, 64 clients",
            path="/v1/chat/completions",
            body=chat_body(prompt="x" * 200),
            clients=64,
            requests=int(12_000 * share),
            limit_s=limit_s,
        ),
        Workload(
            name="half",
            title="Chat at half of what each target can answer, at even distances (open loop)",
            path="/v1/chat/completions",
            body=chat_body(prompt="x" * 200),
            clients=256,
            requests=0,
            limit_s=limit_s,
            share=0.5,
        ),
        Workload(
            name="embedding",
            title="Embeddings: one text of 120 characters a call, answered at once, 256 clients",
            path="/v1/embeddings",
            body=_encode({"model": EMBEDDING_MODEL, "input": "x" * 120}),
            clients=256,
            requests=int(12_000 * share),
            limit_s=limit_s,
        ),
        Workload(
            name="long",
            title="Long prompts: a body of 400 KB, answered at once, 8 clients",
            path="/v1/chat/completions",
            body=chat_body(prompt=long_prompt(400_000)),
            clients=8,
            requests=int(800 * share),
            limit_s=limit_s,
        ),
    )


def _paced(events: int) -> Workload:
    # Begun in one instant, the first token of one would wait for the heads of the others.
    return Workload(
        name="paced",
        title=(
            f"Streams: 300 begun within a second, first byte after 50 ms, then {events} chunks "
            "20 ms apart"
        ),
        path="/v1/chat/completions",
        body=stream_body(events=events, first_ms=50, interval_ms=20),
        clients=300,
        requests=300,
        limit_s=30.0,
        unit="chunk",
        events=events + 1,
        lasts_s=0.05 + 0.02 * (events - 1),
        rate=300.0,
    )


def _memory(streams: int, *, quick: bool) -> Workload:
    return Workload(
        name="memory",
        title=f"Memory: {streams:,} streams open at once, a chunk a second",
        path="/v1/chat/completions",
        body=stream_body(events=1_000_000, first_ms=50, interval_ms=1000),
        clients=streams,
        requests=streams,
        limit_s=30.0,
        unit="stream",
        hold_s=0.5 if quick else 1.5,
    )


def warm_up(workload: Workload) -> Workload:
    """A little of the same, so that a target has opened its connections and compiled its code."""
    share = min(1.0, 50 / workload.clients)
    clients = max(1, int(workload.clients * share))
    return replace(
        workload,
        clients=clients,
        requests=clients if workload.is_stream else 10 * clients,
        limit_s=min(workload.limit_s, 0.5) if not workload.is_stream else workload.limit_s,
        share=0.0,
    )


def chat_body(prompt: str) -> bytes:
    """A chat request that is answered in one piece."""
    return _encode({"model": CHAT_MODEL, "messages": [{"role": "user", "content": prompt}]})


def long_prompt(size: int) -> str:
    """A prompt that takes about so many bytes in JSON, escapes among them."""
    return 'one "word"\n' * (size // 14)


def stream_body(events: int, first_ms: int, interval_ms: int) -> bytes:
    """A chat request that the stand-in engine streams at this pace.

    The pace stands in the prompt: some routers write the rest of the body anew, and put what they
    do not know last, where the engine does not look for it.
    """
    pace = f"bench_first_ms={first_ms} bench_interval_ms={interval_ms} "
    return _encode(
        {
            "model": CHAT_MODEL,
            "stream": True,
            "max_tokens": events,
            "messages": [{"role": "user", "content": pace.ljust(200, "x")}],
        }
    )


def _encode(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
