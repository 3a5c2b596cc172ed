"""The provider that answers where the pool's own engines do not.

To the request path it is one more backend, outside of every queue: requests are sent there for a
cause, never by load. It has a breaker like every backend.
"""

import logging
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from sagepool_crds.pool import Role
from sagepool_router.backend import LiveBackend
from sagepool_router.limits import Limits
from sagepool_router.table import Backend, CloudTarget
from sagepool_router.upstream import CoarseClock

_logger: Final = logging.getLogger(__name__)

Cause: TypeAlias = Literal["source", "absent", "starting", "overloaded"]
"""Why a request goes to the provider: the pool says so, or its engines cannot take it."""

NAME: Final = "cloud"
"""What the provider is called where instances are named."""
ROUTES: Final = frozenset(
    (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses")
)
"""What providers know."""
_UID: Final = "spec.cloud"
"""What no instance has as its uid."""


def covers(target: CloudTarget, model: str, role: Role, cause: Cause) -> bool:
    """Whether a pool lets its provider answer for a model."""
    if model not in target.models:
        return False
    if cause == "source":
        return True
    # vectors of another model cannot be compared with the pool's own
    return cause in target.when and (role == "llm" or model in target.same_space)


class CloudKey:
    """The provider's key, read again when its file changes.

    Args:
        path: of the file; None: requests carry no key.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._key = ""
        self._error = ""

    def read(self) -> str:
        """The key, the last one while none can be read; empty before there was one."""
        if self._path is None:
            return ""
        try:
            facts = self._path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size)
            if stamp != self._seen:
                self._key = _check(self._path.read_text())
                self._seen = stamp
        except (OSError, ValueError) as error:
            self._report(error)
        else:
            self._error = ""
        return self._key

    def _report(self, error: OSError | ValueError) -> None:
        words = _words(error)
        if words != self._error:  # it is read again several times a second
            self._error = words
            _logger.error(
                "the provider's key cannot be read",
                extra={"path": str(self._path), "error": words},
            )


def _check(text: str) -> str:
    """The key in a file.

    Raises:
        ValueError: it cannot stand in a header.
    """
    key = text.strip()
    if not key.isascii() or not key.isprintable():
        raise ValueError
    return key


def _words(error: OSError | ValueError) -> str:
    """What is wrong, without a word of the file: each could be the key itself."""
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return "it must be one line of visible ASCII characters"


class Cloud:
    """The provider of a table, live.

    Args:
        target: what the pool says of it.
        key: of the provider.
        limits: of the process.
        clock: the sweep's.
    """

    __slots__ = ("_key", "_sent_key", "backend", "target")

    def __init__(
        self, target: CloudTarget, key: CloudKey, limits: Limits, clock: CoarseClock
    ) -> None:
        self.target = target
        url = urlsplit(target.base_url)
        self.backend = LiveBackend(
            Backend(
                instance=NAME,
                uid=_UID,
                role="llm",
                engine="vllm",
                scheme=url.scheme,
                host=url.hostname or "",
                port=url.port or (443 if url.scheme == "https" else 80),
                prefix=url.path.rstrip("/"),
                models=(),
                limit=limits.max_inflight,
            ),
            limits,
            clock,
        )
        self.backend.is_provider = True
        self.backend.skipped = len("/v1")  # the base address holds it already
        self._key = key
        self._sent_key: str | None = None
        self.refresh()

    def refresh(self) -> None:
        """Take the key in if it has changed; called by the sweep."""
        key = self._key.read()
        if key != self._sent_key:
            self._sent_key = key
            self.backend.authorize(key)

    def answers(self, model: str, role: Role, path: bytes, cause: Cause) -> bool:
        """Whether the provider may answer for a model now."""
        return path in ROUTES and covers(self.target, model, role, cause) and self.has_room

    @property
    def has_room(self) -> bool:
        """It may be sent to now: not after failures, then one request at a time."""
        # not its health: only a request can find out that it is back
        return self.backend.in_flight < self.backend.capacity

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What the provider takes for a request."""
        target = self.target
        return (
            prompt_tokens * target.price_input + completion_tokens * target.price_output
        ) / 1_000_000
