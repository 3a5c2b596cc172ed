"""Pools whose record is lost or broken: they can be stopped, and keep no other from it."""

from pathlib import Path

import pytest

from sage_command import Sage, pids_of, until_gone

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("content", [None, "{bad"], ids=["deleted", "broken"])
def test_a_pool_that_runs_without_a_record_is_stopped(
    sage: Sage, pool_file: Path, content: str | None
) -> None:
    with sage.pool(pool_file):
        pids = pids_of(sage.status())
        record = sage.home / "pools" / "rag" / "record.json"
        record.unlink()
        if content is not None:
            record.write_text(content)
        ended = sage.run("inference", "stop", "rag")
        assert (ended.code, ended.out) == (0, "pool rag is stopped\n")
        until_gone(pids, 0)
        assert not record.exists()


def test_a_broken_record_keeps_no_other_pool_from_being_stopped(
    sage: Sage, pool_file: Path
) -> None:
    junk = sage.home / "pools" / "junk"
    junk.mkdir(parents=True)
    (junk / "record.json").write_text("{bad")
    with sage.pool(pool_file):
        pids = pids_of(sage.status("rag"))
        ended = sage.run("inference", "stop", "--all")
        assert (ended.code, ended.out) == (0, "pool rag is stopped\n")
        until_gone(pids, 0)
