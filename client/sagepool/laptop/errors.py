"""The errors of the command line and of laptop mode; each is one sentence with the next step.

CommandError        1: it failed, and may do later: a busy port, a pool that runs already
├── WrongUse        2: what was asked for cannot be meant so, or lacks something
└── NothingFound    3: there is no such thing
"""


class CommandError(Exception):
    """The command failed; the message says why and what to do."""

    exit_code = 1


class WrongUse(CommandError):
    """Wrong use: said before anything is started or changed."""

    exit_code = 2


class NothingFound(CommandError):
    """What was named is not there."""

    exit_code = 3
