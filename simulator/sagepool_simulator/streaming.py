"""An event stream that leaves as its answer grows, or goes wrong on command."""

import asyncio
from functools import partial
from typing import Final

from sagepool_simulator.calls import Call
from sagepool_simulator.engine import Engine, Sequence
from sagepool_simulator.faults import Fault
from sagepool_simulator.generation import Answer
from sagepool_simulator.wire import error_body

_FLUSH_S: Final = 0.01
"""A reset waits for that long: what was written before must reach the client first."""


class Stream:
    """The stream of one answer; a Work of its connection."""

    def __init__(
        self,
        answer: Answer,
        call: Call,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        *,
        with_usage: bool,
    ) -> None:
        self._answer = answer
        self._connection = call.connection
        self._fault: Fault | None = call.fault
        self._engine = engine
        self._loop = loop
        self._with_usage = with_usage
        plan = answer.plan
        self._sequences = [
            Sequence(
                prompt,
                plan.max_tokens,
                plan.n,
                partial(self._grow, number),
                partial(self._finish, number),
                plan.finish_reason,
            )
            for number, prompt in enumerate(plan.prompts)
        ]
        self._unfinished = set(range(len(self._sequences)))
        self._is_open = False
        self._chunks_sent = 0
        self._held: list[bytes] | None = None
        """While a fault interrupts the stream: what would have been sent."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin. The head leaves before the first token is there, as in vLLM."""
        self._connection.begin_stream()
        if self._fault is not None and self._fault.kind == "error_frame":
            self._unfinished.clear()
            body = error_body(self._fault.status, "fault on command", "InternalServerError")
            self._connection.end_stream(b"data: %b\n\ndata: [DONE]\n\n" % body)
            return
        for sequence in self._sequences:
            self._engine.submit(sequence)

    def cancel(self) -> None:
        """The client has left."""
        if self._timer is not None:
            self._timer.cancel()
        for number in self._unfinished:
            self._engine.abort(self._sequences[number])

    def _grow(self, number: int, tokens: int) -> None:
        frames = self._answer.chunks(number, self._answer.grow(number, tokens))
        if not self._is_open:
            self._is_open = True
            frames = self._answer.opening() + frames
        self._send(frames)

    def _finish(self, number: int) -> None:
        self._unfinished.discard(number)
        self._send(self._answer.closing(number))
        if not self._unfinished and self._held is None:
            self._end()

    def _send(self, frames: list[bytes]) -> None:
        if self._held is not None:
            self._held += frames
            return
        fault = self._fault
        if fault is not None and fault.kind in ("reset_stream", "stall_stream"):
            left = fault.after_chunks - self._chunks_sent
            if len(frames) > left:
                self._interrupt(frames, left, fault)
                return
        self._chunks_sent += len(frames)
        self._connection.stream(frames)

    def _interrupt(self, frames: list[bytes], left: int, fault: Fault) -> None:
        self._fault = None
        self._held = frames[left:]
        if left:
            self._connection.stream(frames[:left])
        if fault.kind == "reset_stream":
            self._timer = self._loop.call_later(_FLUSH_S, self._connection.reset)
        else:
            self._timer = self._loop.call_later(fault.seconds, self._go_on)

    def _go_on(self) -> None:
        held, self._held = self._held or [], None
        self._connection.stream(held)
        if not self._unfinished:
            self._end()

    def _end(self) -> None:
        cached = sum(sequence.cached_tokens for sequence in self._sequences)
        self._connection.end_stream(self._answer.ending(cached, with_usage=self._with_usage))
