"""The errors of the cluster tool; each message says what is wrong and the next step.

ClusterError
├── Unsupported        this provider cannot do that, or no provider can work here
├── Missing            a program or a package is not on this machine
├── RangeTaken         an address range of the cluster is in use on this machine
├── BuildFailed        Go or the image build ended in an error
├── CommandFailed      a program that we ran ended in an error
├── ComponentFailed    a part of the cluster does not become healthy
└── NotRunning         there is no cluster to act upon
"""


class ClusterError(Exception):
    """Something a person can act upon; the command line prints the message and exits with 1."""


class Unsupported(ClusterError):
    """The chosen provider cannot do what was asked, or none can work on this machine."""


class Missing(ClusterError):
    """A program or a package is not on this machine."""


class RangeTaken(ClusterError):
    """An address range that the cluster wants is in use on this machine."""


class BuildFailed(ClusterError):
    """A build ended in an error."""


class CommandFailed(ClusterError):
    """A program that we ran ended in an error."""


class ComponentFailed(ClusterError):
    """A part of the cluster ended, or does not become healthy in time."""


class NotRunning(ClusterError):
    """There is no cluster to act upon."""
