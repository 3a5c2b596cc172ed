"""Clients that ask again and again, as applications do, and note what came of every request."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from sagepool_demo.figures import Kind, Outcome

INSTANCE_HEADER: Final = "x-sagepool-instance"

_MIX: Final[tuple[Kind, ...]] = (
    "streamed chat",
    "streamed chat",
    "streamed chat",
    "chat",
    "embeddings",
)
"""What a client asks for, drawn at random."""

_PROMPT: Final = "Question {number}: how do engines come and go while requests flow?"
_TEXTS: Final = 4
"""Texts of an embeddings request."""
_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """Who asks for what, and how often."""

    chat_model: str
    embedding_model: str
    clients: int
    shortest_pause_s: float = 0.2
    longest_pause_s: float = 0.8
    answer_tokens: int = 24
    mix: tuple[Kind, ...] = _MIX


@dataclass(frozen=True, slots=True)
class _Answer:
    instance: str
    first_token_s: float | None = None
    failure: str = ""


class Traffic:
    """A number of clients that share one OpenAI client, and the outcomes of their requests."""

    def __init__(
        self, openai: AsyncOpenAI, plan: Plan, rng: Random, clock: Callable[[], float]
    ) -> None:
        """Prepare; `openai` must not retry by itself, or failures would be hidden."""
        self._openai = openai
        self._plan = plan
        self._rng = rng
        self._clock = clock
        self._started = clock()
        self._waiting_for_first = plan.clients
        self.outcomes: list[Outcome] = []
        """In the order of their ends."""
        self.flowing = asyncio.Event()
        """Set when every client has had an outcome."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the traffic began."""
        return self._clock() - self._started

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop` is set; requests under way then still come to their end."""
        self._started = self._clock()
        async with asyncio.TaskGroup() as clients:
            for number in range(self._plan.clients):
                clients.create_task(self._ask_repeatedly(number, stop))

    async def _ask_repeatedly(self, number: int, stop: asyncio.Event) -> None:
        plan = self._plan
        # Not all at the same moment: people do not come like that either.
        await _pause(stop, self._rng.uniform(0, plan.longest_pause_s))
        asked = 0
        while not stop.is_set():
            self.outcomes.append(await self._ask(self._rng.choice(plan.mix), number))
            asked += 1
            if asked == 1:
                self._waiting_for_first -= 1
            if self._waiting_for_first == 0:
                self.flowing.set()
            await _pause(stop, self._rng.uniform(plan.shortest_pause_s, plan.longest_pause_s))

    async def _ask(self, kind: Kind, number: int) -> Outcome:
        began = self._clock()
        try:
            match kind:
                case "streamed chat":
                    answer = await self._stream_chat(number)
                case "chat":
                    answer = await self._chat(number)
                case "embeddings":
                    answer = await self._embed(number)
        except Exception as error:  # whatever it was, it is this request's outcome
            answer = _Answer("", failure=describe_failure(error))
        return Outcome(
            kind=kind,
            started_s=began - self._started,
            latency_s=self._clock() - began,
            first_token_s=answer.first_token_s,
            instance=answer.instance,
            failure=answer.failure,
        )

    async def _stream_chat(self, number: int) -> _Answer:
        began = self._clock()
        raw = await self._openai.chat.completions.with_raw_response.create(
            model=self._plan.chat_model,
            messages=[{"role": "user", "content": _PROMPT.format(number=number)}],
            max_tokens=self._plan.answer_tokens,
            stream=True,
        )
        first_token_s = None
        ended = False
        async with raw.parse() as stream:
            async for chunk in stream:
                if not chunk.choices:
                    continue
                if first_token_s is None and chunk.choices[0].delta.content:
                    first_token_s = self._clock() - began
                ended = ended or chunk.choices[0].finish_reason is not None
        failure = "" if ended and first_token_s is not None else "the streamed answer was cut short"
        return _Answer(raw.headers.get(INSTANCE_HEADER, ""), first_token_s, failure)

    async def _chat(self, number: int) -> _Answer:
        raw = await self._openai.chat.completions.with_raw_response.create(
            model=self._plan.chat_model,
            messages=[{"role": "user", "content": _PROMPT.format(number=number)}],
            max_tokens=self._plan.answer_tokens,
        )
        failure = "" if raw.parse().choices[0].message.content else "the answer was empty"
        return _Answer(raw.headers.get(INSTANCE_HEADER, ""), failure=failure)

    async def _embed(self, number: int) -> _Answer:
        raw = await self._openai.embeddings.with_raw_response.create(
            model=self._plan.embedding_model,
            input=[f"text {i} of client {number}" for i in range(_TEXTS)],
        )
        answered = [entry.index for entry in raw.parse().data]
        failure = "" if answered == [*range(_TEXTS)] else f"{_TEXTS} texts gave vectors {answered}"
        return _Answer(raw.headers.get(INSTANCE_HEADER, ""), failure=failure)


def describe_failure(error: Exception) -> str:
    """Why a request failed, in one line."""
    match error:
        case APIStatusError():
            text = f"status {error.status_code}: {error.message}"
        case APITimeoutError():
            text = "no answer in time"
        case APIConnectionError():
            text = f"connection: {error.__cause__!r}"
        case _:
            text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_LONGEST_REASON]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
