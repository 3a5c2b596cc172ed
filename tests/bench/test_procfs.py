"""What is read of /proc."""

import os
import time
from pathlib import Path

import pytest
from bench.machine import read_cpu_model
from bench.procfs import list_session, parse_stat, read_cpu_s, read_session

STAT = (
    "4242 ({name}) S 1 4240 4241 0 -1 4194304 5100 0 0 0 123 45 6 7 20 0 9 0 881234 "
    "123456789 13000 18446744073709551615 1 1 0 0 0 0 0 16781312 17642 0 0 0 17 1 0 0 0 0 0\n"
)


@pytest.mark.parametrize("name", ["python", "a name (with) brackets", "x) S 9 9 9"])
def test_a_process_is_read_whatever_its_name(name: str) -> None:
    stat = parse_stat(STAT.format(name=name))
    assert (stat.session, stat.rss_pages) == (4241, 13000)


def test_own_session_uses_memory_and_cpu() -> None:
    usage = read_session(os.getsid(0))
    assert usage.rss_bytes > 1 << 20
    assert usage.cpu_s >= read_cpu_s(os.getpid()) > 0


def test_cpu_time_is_that_of_the_process() -> None:
    before = time.process_time()
    seen = read_cpu_s(os.getpid())
    assert before <= seen <= time.process_time()


def test_a_session_of_nobody_has_no_member(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "17").mkdir()  # ended between the listing and the reading
    assert list_session(17, proc=tmp_path) == {}


def test_a_process_that_has_ended_is_no_member_of_its_session(tmp_path: Path) -> None:
    for pid, state in ((17, "S"), (18, "Z")):
        (tmp_path / str(pid)).mkdir()
        text = STAT.format(name="python").replace(" S ", f" {state} ", 1)
        (tmp_path / str(pid) / "stat").write_text(text)
    assert list(list_session(4241, proc=tmp_path)) == [17]


def test_cpu_time_of_no_process_is_an_error() -> None:
    beyond_every_pid = 1 << 22
    with pytest.raises(ProcessLookupError):
        read_cpu_s(beyond_every_pid + 1)


def test_cpu_model_is_read() -> None:
    assert read_cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n") == "AMD EPYC"
