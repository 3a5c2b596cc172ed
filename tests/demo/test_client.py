import io
from pathlib import Path

import pytest

from demo_endpoint import DIMENSION, WORDS, DemoEndpoint
from sagepool_demo.client import Log, list_models, search_text, stream_answer
from sagepool_demo.events import Answered, Chunk, Embedded, Event, Found, Listed, read_event
from sagepool_demo.paragraphs import split_paragraphs

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"


class ReadableLog(Log):
    """A log whose events can be read back, through the lines that they became."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        super().__init__(self.out)

    def events(self) -> list[Event]:
        events = [read_event(line) for line in self.out.getvalue().splitlines()]
        return [event for event in events if event is not None]


@pytest.fixture
def log() -> ReadableLog:
    return ReadableLog()


async def test_the_client_tells_which_models_there_are(log: ReadableLog) -> None:
    async with DemoEndpoint().openai() as openai:
        await list_models(openai, log)
    assert log.events() == [Listed(models=("m",))]


async def test_the_client_tells_a_streamed_answer_piece_by_piece(log: ReadableLog) -> None:
    async with DemoEndpoint().openai() as openai:
        await stream_answer(openai, "m", log)
    *chunks, answered = log.events()
    assert chunks == [Chunk(text=word) for word in WORDS]
    assert isinstance(answered, Answered)
    assert (answered.chunks, answered.instance) == (len(WORDS), "engine-1")
    assert 0 < answered.first_token_s <= answered.latency_s


async def test_the_client_finds_the_paragraph_that_shares_the_questions_words(
    log: ReadableLog,
) -> None:
    async with DemoEndpoint().openai() as openai:
        await search_text(openai, "m", CONCEPTS.read_text(), log)
    embedded, *found = log.events()
    assert isinstance(embedded, Embedded)
    paragraphs = split_paragraphs(CONCEPTS.read_text())
    assert (embedded.paragraphs, embedded.dimension) == (len(paragraphs), DIMENSION)
    wrong = [f for f in found if isinstance(f, Found) and f.heading != f.expected]
    assert wrong == []
