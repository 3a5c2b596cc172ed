"""How the bench's commands end."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from bench.ending import run_to_end
from bench.errors import CannotMeasure

from sagepool_cluster.errors import ClusterError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Gives the test process its signals' handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_what_was_started_even_where_the_shell_has_it_ignored(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(number, signal.SIG_IGN)
    ended = []

    def measure() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
            return 0
        finally:
            ended.append("the cluster")

    assert run_to_end(measure) == 130
    assert ended == ["the cluster"]
    assert capsys.readouterr().err == "bench: stopped\n"


@pytest.mark.parametrize("error", [CannotMeasure("no Go"), ClusterError("no root")])
def test_what_is_wrong_is_one_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> int:
        raise error

    assert run_to_end(measure) == 1
    assert capsys.readouterr().err == f"bench: {error}\n"


def test_a_measurement_tells_its_status() -> None:
    assert run_to_end(lambda: 0) == 0
