"""What the demo promises, held against what happened. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sagepool_demo.events import Answered, Finished, Found, Listed

_FEWEST_CHUNKS = 5
"""An answer in fewer pieces was not streamed."""


@dataclass(slots=True)
class Story:
    """What happened, as far as it has."""

    models: frozenset[str]
    """Names that the pool serves."""
    listed: Listed | None = None
    answered: Answered | None = None
    found: list[Found] = field(default_factory=list)
    finished: Finished | None = None
    newcomers: dict[str, str] = field(default_factory=dict)
    """Engines that came while requests flowed, and why they came."""


def find_broken_promises(story: Story) -> Iterator[str]:
    """A sentence for each thing that was not as it should be."""
    listed = frozenset(story.listed.models) if story.listed else frozenset()
    if not story.models <= listed:
        missing = ", ".join(sorted(story.models - listed))
        yield f"GET /v1/models does not list {missing}"
    yield from _check_answer(story.answered)
    if not story.found:
        yield "no question was searched"
    for found in story.found:
        if found.heading != found.expected:
            yield f"{found.question!r} found {found.heading!r} instead of {found.expected!r}"
    yield from _check_traffic(story)


def _check_answer(answered: Answered | None) -> Iterator[str]:
    if answered is None:
        yield "no chat answer was streamed"
    elif answered.chunks < _FEWEST_CHUNKS:
        yield f"the chat answer came in {answered.chunks} pieces: it was not streamed"
    elif not answered.instance:
        yield "the chat answer does not say which instance gave it"


def _check_traffic(story: Story) -> Iterator[str]:
    finished = story.finished
    if finished is None:
        yield "the traffic has no result"
        return
    for kind in finished.kinds:
        if kind.requests == 0:
            yield f"no {kind.kind} request was made"
    for reason, count in finished.reasons.items():
        yield f"{count} requests failed: {reason}"
    for name, cause in story.newcomers.items():
        if name not in finished.answered:
            yield f"{name}, which came {cause}, answered nothing"
