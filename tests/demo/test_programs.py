import sys
from contextlib import aclosing

import pytest

from sagepool_demo.errors import ProgramFailed
from sagepool_demo.programs import read_lines, run_program


async def test_a_program_gets_its_input_and_its_output_is_returned() -> None:
    assert await run_program(["cat"], stdin="a\nb\n") == "a\nb\n"


async def test_a_program_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(ProgramFailed, match=r"`sh -c .*` ended with 3: no such luck"):
        await run_program(["sh", "-c", "echo no such luck >&2; exit 3"])


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ProgramFailed, match="no-such-program is not there"):
        await run_program(["no-such-program"])


async def test_lines_arrive_while_the_program_runs() -> None:
    # It would go on for ever: the first line arrives all the same, and leaving ends it.
    endless = "import itertools, time\nfor i in itertools.count(): print(i, flush=True)"
    async with aclosing(read_lines([sys.executable, "-c", endless])) as lines:
        assert await anext(lines) == "0"
        assert await anext(lines) == "1"


async def test_a_program_that_fails_after_its_lines_is_an_error_at_their_end() -> None:
    lines = read_lines(["sh", "-c", "echo one; echo bad >&2; exit 1"])
    assert await anext(lines) == "one"
    with pytest.raises(ProgramFailed, match="ended with 1: bad"):
        await anext(lines)
