"""The half of the demo that runs in a pod: an application that uses the pool's endpoint.

`python -m sagepool_demo.client --url ... --text ...`; SIGTERM ends the traffic and prints its sums.
"""

import argparse
import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, TextIO

from openai import AsyncOpenAI

from sagepool_demo.events import (
    Answered,
    Chunk,
    Embedded,
    Event,
    Flowing,
    Found,
    Listed,
    Stopped,
)
from sagepool_demo.figures import summarise, summarise_progress
from sagepool_demo.paragraphs import split_paragraphs
from sagepool_demo.search import QUESTIONS, find_nearest
from sagepool_demo.traffic import INSTANCE_HEADER, Plan, Traffic, describe_failure

_QUESTION: Final = "What does a pool of chat and embedding engines do for an application?"
_ANSWER_TOKENS: Final = 48
_TIMEOUT_S: Final = 30.0
_EXCERPT_LENGTH: Final = 100
_PROGRESS_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the pod is told."""

    url: str
    text: Path
    chat_model: str
    embedding_model: str
    clients: int


class Log:
    """The pod's log, an event a line."""

    def __init__(self, out: TextIO) -> None:
        """Write to `out`."""
        self._out = out

    def say(self, event: Event) -> None:
        """Write the event at once."""
        print(event.model_dump_json(), file=self._out, flush=True)


async def list_models(openai: AsyncOpenAI, log: Log) -> None:
    """Ask what there is."""
    models = await openai.models.list()
    log.say(Listed(models=tuple(model.id for model in models.data)))


async def stream_answer(openai: AsyncOpenAI, model: str, log: Log) -> None:
    """Let one question be answered, piece by piece."""
    began = time.monotonic()
    raw = await openai.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": _QUESTION}],
        max_tokens=_ANSWER_TOKENS,
        stream=True,
    )
    chunks = 0
    first_token_s = 0.0
    async with raw.parse() as stream:
        async for part in stream:
            text = part.choices[0].delta.content if part.choices else None
            if text:
                first_token_s = first_token_s or time.monotonic() - began
                chunks += 1
                log.say(Chunk(text=text))
    log.say(
        Answered(
            model=model,
            chunks=chunks,
            first_token_s=first_token_s,
            latency_s=time.monotonic() - began,
            instance=raw.headers.get(INSTANCE_HEADER, ""),
        )
    )


async def search_text(openai: AsyncOpenAI, model: str, page: str, log: Log) -> None:
    """Embed the page's paragraphs, then find the one that answers each question."""
    paragraphs = split_paragraphs(page)
    began = time.monotonic()
    vectors = await _embed(openai, model, [paragraph.document for paragraph in paragraphs])
    log.say(
        Embedded(
            paragraphs=len(vectors),
            dimension=len(vectors[0]),
            latency_s=time.monotonic() - began,
        )
    )
    asked = await _embed(openai, model, [question.text for question in QUESTIONS])
    for question, vector in zip(QUESTIONS, asked, strict=True):
        index, similarity = find_nearest(vector, vectors)
        log.say(
            Found(
                question=question.text,
                heading=paragraphs[index].heading,
                expected=question.heading,
                excerpt=paragraphs[index].text[:_EXCERPT_LENGTH],
                similarity=similarity,
            )
        )


async def _embed(openai: AsyncOpenAI, model: str, texts: list[str]) -> list[list[float]]:
    answer = await openai.embeddings.create(model=model, input=texts)
    return [entry.embedding for entry in answer.data]


async def keep_asking(openai: AsyncOpenAI, plan: Plan, stop: asyncio.Event, log: Log) -> None:
    """Keep the clients going until `stop`, and say how it goes."""
    traffic = Traffic(openai, plan, Random(plan.clients), time.monotonic)

    async def report() -> None:
        await traffic.flowing.wait()
        log.say(Flowing(clients=plan.clients))
        while True:
            log.say(summarise_progress(traffic.outcomes, traffic.elapsed_s))
            await asyncio.sleep(_PROGRESS_INTERVAL_S)

    async with asyncio.TaskGroup() as tasks:
        reporter = tasks.create_task(report())
        await traffic.run(stop)
        reporter.cancel()
    log.say(summarise(traffic.outcomes, traffic.elapsed_s))


async def run(options: Options, log: Log) -> None:
    """The client's whole part.

    Raises:
        openai.OpenAIError: the endpoint does not answer as it should.
        OSError: the text cannot be read.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    page = options.text.read_text(encoding="utf-8")
    # No retries of its own: what fails is to be seen. No key: the pool is open in the cluster.
    async with AsyncOpenAI(
        base_url=options.url, api_key="none", max_retries=0, timeout=_TIMEOUT_S
    ) as openai:
        await list_models(openai, log)
        await stream_answer(openai, options.chat_model, log)
        await search_text(openai, options.embedding_model, page, log)
        plan = Plan(options.chat_model, options.embedding_model, options.clients)
        await keep_asking(openai, plan, stop, log)


def read_options(arguments: list[str]) -> Options:
    """Read the command line; argparse ends the program when it is wrong."""
    parser = argparse.ArgumentParser(prog="sagepool_demo.client", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL, with /v1")
    parser.add_argument("--text", required=True, type=Path, help="Markdown page to search")
    parser.add_argument("--chat-model", required=True)
    parser.add_argument("--embedding-model", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parsed = parser.parse_args(arguments)
    return Options(**vars(parsed))


def main() -> int:
    """Run; the exit status is 1 when the client could not go on."""
    log = Log(sys.stdout)
    try:
        asyncio.run(run(read_options(sys.argv[1:]), log))
    except Exception as error:  # the log is all that can be seen of this pod
        log.say(Stopped(message=describe_failure(error)))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
