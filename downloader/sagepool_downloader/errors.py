"""What can go wrong with a download.

    DownloadError
    ├── TokenMissing       the hub asks for a token, and none is given
    ├── TokenRefused       the token given does not open the model
    ├── ModelNotFound      no such model or revision
    ├── ModelUnusable      its list of files cannot be worked with, or it changes meanwhile
    ├── AccessDenied       the bucket does not let us read
    ├── StorageUnreachable the bucket's storage gives no answer, or none that can be used
    ├── HubUnreachable     no answer, or none that can be used, after several attempts
    ├── DiskFull           the volume has too little room
    ├── FolderUnusable     the volume cannot be written, or not by this user
    ├── ChecksumMismatch   the bytes are not those that the list of files names
    ├── StillMissing       the model is not there after the wait's limit
    ├── StillHeld          a model to remove is held by others after the wait's limit
    └── Interrupted        another file of the model has failed

The class's name is the reason and the text says the next step: both become the container's
termination message, and from there the pool's status.
"""


class DownloadError(Exception):
    """A download that failed; its message names the cause and the next step."""

    @property
    def reason(self) -> str:
        """CamelCase, for a condition."""
        return type(self).__name__


class TokenMissing(DownloadError):
    """The hub asks for a token, and none is given."""


class TokenRefused(DownloadError):
    """The token given does not open the model."""


class ModelNotFound(DownloadError):
    """No such model or revision."""


class ModelUnusable(DownloadError):
    """Its list of files cannot be worked with, or a file of it has changed meanwhile."""


class AccessDenied(DownloadError):
    """The bucket does not let us read."""


class StorageUnreachable(DownloadError):
    """The bucket's storage gives no answer, or none that can be used, after several attempts."""


class HubUnreachable(DownloadError):
    """No answer, or none that can be used, after several attempts."""


class DiskFull(DownloadError):
    """The volume has too little room."""


class FolderUnusable(DownloadError):
    """The volume cannot be written, or not by this user."""


class ChecksumMismatch(DownloadError):
    """The bytes are not those that the list of files names."""


class StillMissing(DownloadError):
    """The model is not there after the wait's limit."""


class StillHeld(DownloadError):
    """A model to remove is held by others after the wait's limit."""


class Interrupted(DownloadError):
    """Another file of the model has failed."""
