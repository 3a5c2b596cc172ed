from dataclasses import replace

import pytest

from sagepool_demo.checks import Story, find_broken_promises
from sagepool_demo.events import Answered, Found, Listed
from sagepool_demo.figures import KINDS, Outcome, summarise

GOOD = Story(
    models=frozenset({"chat", "embed"}),
    listed=Listed(models=("chat", "embed", "alias")),
    answered=Answered(model="chat", chunks=20, first_token_s=0.1, latency_s=1, instance="a"),
    found=[Found(question="q", heading="A", expected="A", excerpt="", similarity=0.9)],
    finished=summarise([Outcome(kind, 0, 1, instance="new") for kind in KINDS], 1),
    newcomers={"new": "with the scaling to 3"},
)
FAILED = summarise([Outcome(k, 0, 1, instance="new", failure="status 502") for k in KINDS], 1)


def test_nothing_is_broken_when_all_was_as_promised() -> None:
    assert list(find_broken_promises(GOOD)) == []


@pytest.mark.parametrize(
    ("story", "sentence"),
    [
        (replace(GOOD, listed=Listed(models=("chat",))), "does not list embed"),
        (replace(GOOD, answered=None), "no chat answer"),
        (
            replace(
                GOOD,
                answered=Answered(
                    model="chat", chunks=1, first_token_s=1, latency_s=1, instance="a"
                ),
            ),
            "was not streamed",
        ),
        (replace(GOOD, found=[]), "no question"),
        (
            replace(
                GOOD,
                found=[Found(question="q", heading="B", expected="A", excerpt="", similarity=0.9)],
            ),
            "'q' found 'B' instead of 'A'",
        ),
        (replace(GOOD, finished=None), "no result"),
        (replace(GOOD, finished=FAILED, newcomers={}), "3 requests failed: status 502"),
        (replace(GOOD, newcomers={"other": "in place of a"}), "other, which came in place of a"),
    ],
)
def test_each_broken_promise_is_named(story: Story, sentence: str) -> None:
    assert any(sentence in broken for broken in find_broken_promises(story))
