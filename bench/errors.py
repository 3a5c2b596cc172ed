"""The errors of the bench; each message says what is wrong and the next step.

BenchError
├── CannotMeasure    something that the bench needs is not here
├── TargetFailed     a program under test did not start, or ended on its own
└── LoadFailed       answers were wrong or missing, so the figures mean nothing
"""


class BenchError(Exception):
    """Something a person can act upon; the command line prints the message and exits with 1."""


class CannotMeasure(BenchError):
    """Something that the bench needs is not here."""


class TargetFailed(BenchError):
    """A program under test did not start, or ended on its own."""


class LoadFailed(BenchError):
    """Answers were wrong or missing, so the figures mean nothing."""
