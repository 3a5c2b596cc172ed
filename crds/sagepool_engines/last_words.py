"""Why an engine has ended, found in what it wrote last. Pure.

vLLM's engine runs in a process of its own. That one says what is wrong; then the server tells, over
many lines, that the engine did not start. So the cause is seldom among the last lines.
"""

import re
from typing import Final

_SPEAKER: Final = re.compile(
    r"^(?:(?:chat|embedding): )?(?:\([^()]*\) )*"
    r"(?:(?:ERROR|CRITICAL) \S+ \S+ (?:\[[^\]]*\] )?)?"
)
"""Who says it, how loud and when; the process, the level, the time and the line of code."""
_EXCEPTION: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?:: .*\S)")
_CONSEQUENCE: Final = re.compile(
    r"Engine core initialization failed|EngineDeadError|See root cause above|"
    r"Engine process failed to start|WorkerProc initialization failed"
)
"""Told by those who have only heard of it."""


def find_cause(said: str) -> str:
    """The line that says why: of the exceptions in the text the last that is no consequence.

    Without the names of its process and its time; empty where no line is one.
    """
    for line in reversed(said.splitlines()):
        words = _SPEAKER.sub("", line.strip())
        if _EXCEPTION.fullmatch(words) and not _CONSEQUENCE.search(words):
            return words
    return ""
