from sagepool_demo.events import Found, read_event
from sagepool_demo.figures import Outcome, summarise

FOUND = Found(question="why?", heading="Drift", expected="Drift", excerpt="a\nb", similarity=0.5)


def test_events_survive_the_way_through_a_log_line() -> None:
    line = FOUND.model_dump_json()
    assert "\n" not in line
    assert read_event(line) == FOUND


def test_nested_events_survive_it_too() -> None:
    finished = summarise([Outcome("chat", 0, 1, instance="a")], 1)
    assert read_event(finished.model_dump_json()) == finished


def test_other_lines_of_a_log_are_no_events() -> None:
    for line in ("Traceback (most recent call last):", "", "{}", '{"event": "unheard of"}'):
        assert read_event(line) is None
