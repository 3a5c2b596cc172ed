"""The demo's errors; each message is one sentence that says what is wrong.

DemoError
├── ProgramFailed      a program that the demo runs is missing or ended in an error
├── TookTooLong        something did not become so in time
└── ClientStopped      the client in the cluster gave up or said something unexpected
"""


class DemoError(Exception):
    """The demo cannot go on; the command line prints the message and exits with 1."""


class ProgramFailed(DemoError):
    """A program that the demo runs is missing, or ended in an error."""


class TookTooLong(DemoError):
    """Something did not become so in time."""


class ClientStopped(DemoError):
    """The client in the cluster gave up."""
