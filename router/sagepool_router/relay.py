"""Writing an engine's answer to a client, read by read."""

from collections.abc import Callable

from sagepool_router import answers
from sagepool_router.endpoints import Kind
from sagepool_router.errors import RouterError
from sagepool_router.usage import KEPT_READS, TAIL_BYTES, Usage, find_usage, trim_tail


class AnswerRelay:
    """An answer whose first byte goes, or has gone, to the client.

    Args:
        write: of the client's transport.
        status: of the answer.
        is_chunked: the body is sent in chunks; otherwise as it is.
        is_event_stream: a failure can be told as an event.
        opened_at: clock time of its first byte.
    """

    __slots__ = (
        "_is_event_stream",
        "_write",
        "is_chunked",
        "opened_at",
        "reads",
        "status",
        "tail",
    )

    def __init__(
        self,
        write: Callable[[bytes], None],
        status: int,
        is_chunked: bool,
        is_event_stream: bool,
        opened_at: float,
    ) -> None:
        self.status = status
        self.opened_at = opened_at
        self.is_chunked = is_chunked
        """`close` has to end it."""
        self.reads = 0
        """Reads passed on: a metric, and the sign of life that the sweep looks at."""
        self.tail: list[bytes] = []
        """The last reads; the token usage stands at the end of an answer."""
        self._write = write
        self._is_event_stream = is_event_stream

    def open(self, head: bytes, data: bytes) -> None:
        """Write the head and the first of the body together."""
        if data:
            self.reads = 1
            self.tail = [data[-TAIL_BYTES:]]
            if self.is_chunked:
                data = answers.chunk(data)
        self._write(head + data)

    def pass_on(self, data: bytes) -> None:
        """Write the next part of the body: the hottest lines of the router."""
        self.reads += 1
        tail = self.tail
        tail.append(data)
        if len(tail) > KEPT_READS or len(data) >= TAIL_BYTES:
            trim_tail(tail)
        if self.is_chunked:
            self._write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._write(data)

    def close(self) -> None:
        """All of a chunked answer's body is written."""
        self._write(answers.LAST_CHUNK)

    def usage(self) -> Usage | None:
        """The tokens that the answer says it cost, if it does."""
        return find_usage(b"".join(self.tail))

    def break_off(self, error: RouterError, kind: Kind) -> bool:
        """Tell the error in the stream if that is possible; True if it was.

        The last chunk is not written: a client that does not read events sees a broken body.
        """
        if not self._is_event_stream:
            return False
        event = answers.error_event(error, kind)
        if self.tail and not self.tail[-1].endswith((b"\n\n", b"\r\n\r\n")):
            event = b"\n\n" + event  # ends what was broken off in the middle of an event
        self._write(answers.chunk(event) if self.is_chunked else event)
        return True
