"""The errors of the Kubernetes client.

KubeError
├── NotFound        404: no such object, or no such kind on this server
├── AlreadyExists   409, reason AlreadyExists
├── Conflict        409, otherwise
├── Invalid         400, 405, 413, 415, 422 (and a 500 that complains about the applied object)
├── Forbidden       401, 403
│   └── Terminating 403: the namespace is being deleted, nothing can be made in it any more
├── Gone            410: list again
├── Unavailable     no connection, time-out, 429, 5xx: try again later
└── NoCluster       neither a service account nor a kubeconfig says where the API server is
"""


class KubeError(Exception):
    """A call to the API server failed; the message names the call, the object and the reason."""


class NotFound(KubeError):
    """There is no such object, or the server does not know the kind."""


class AlreadyExists(KubeError):
    """An object of that name is there already."""


class Conflict(KubeError):
    """The object changed meanwhile, or another field manager owns a field."""


class Invalid(KubeError):
    """The server refuses the object."""


class Forbidden(KubeError):
    """The credentials are not accepted or lack the right."""


class Terminating(Forbidden):
    """The namespace is being deleted: nothing can be made in it any more."""


class Gone(KubeError):
    """The version to watch from is too old."""


class Unavailable(KubeError):
    """The API server cannot be reached or cannot answer now."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """How long the server asks to wait; then it has not done what it was asked for. None: it
        does not say."""


class NoCluster(KubeError):
    """There is no usable configuration of a cluster."""


def error_of_status(
    call: str, code: int, reason: str, message: str, retry_after: str = ""
) -> KubeError:
    """The error for an answer (or an ERROR event of a watch) with this status.

    Args:
        call: what was asked, for the message: verb, kind and object.
        code: the HTTP status code.
        reason: the `reason` of the Status object; may be empty.
        message: the server's own words.
        retry_after: the header of that name; empty when there is none.
    """
    text = f"{call}: {message or 'no message'} ({code})"
    if code == 409:
        return AlreadyExists(text) if reason == "AlreadyExists" else Conflict(text)
    if code == 500 and "failed to create typed patch object" in message:
        # Server-side apply answers so to unknown fields, wrong types and repeated list keys.
        return Invalid(text)
    if code == 403 and "because it is being terminated" in message:
        # Its cause, NamespaceTerminating, is not in every answer; these words are.
        return Terminating(text)
    by_code: dict[int, type[KubeError]] = {
        401: Forbidden,
        403: Forbidden,
        404: NotFound,
        410: Gone,
    }
    if code in (429, 503):
        # A date may stand there too, but no API server sends one.
        wait_s = float(retry_after) if retry_after.isdecimal() else None
        return Unavailable(text, retry_after_s=wait_s)
    return by_code.get(code, Invalid if 400 <= code < 500 else Unavailable)(text)
