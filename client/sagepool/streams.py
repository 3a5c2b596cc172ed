"""The text of an answer while it is made."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import contextmanager

from sagepool.calls import Call, result_of
from sagepool.closing import AsyncClosing, Closing
from sagepool.errors import APIConnectionError, SagepoolError, StreamBrokenError
from sagepool.events import EventError, TextReader
from sagepool.results import Result
from sagepool.transport import OpenStream, Request, translated


class _Progress:
    """What both kinds of streams know."""

    def __init__(self, call: Call[str], request: Request, opened: OpenStream) -> None:
        self._call = call
        self._request = request
        self._opened = opened
        self._reader = TextReader(call.request_type)
        self._first_text_ms: float | None = None
        self._result: Result[str] | None = None

    @property
    def text(self) -> str:
        """All that has come so far."""
        return self._reader.text

    @property
    def result(self) -> Result[str]:
        """The answer as a whole, with its usage and its tool calls.

        Raises:
            SagepoolError: the stream has not been read to its end.
        """
        if self._result is None:
            raise SagepoolError(
                "the stream has no result yet: read it to its end first",
                request_id=self._request.request_id,
            )
        return self._result

    def _feed(self, piece: bytes) -> list[str]:
        texts = self._reader.feed(piece)
        if texts and self._first_text_ms is None:
            self._first_text_ms = self._opened.attempts.elapsed_s * 1000
        return texts

    def _finish(self) -> None:
        self._reader.close()
        self._result = result_of(
            self._call,
            self._reader.reading(),
            model=self._request.model,
            request_id=self._request.request_id,
            headers=self._opened.headers,
            latency_ms=self._opened.attempts.elapsed_s * 1000,
            extra={"retries": self._opened.attempts.retries, "ttft_ms": self._first_text_ms},
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever breaks the stream is told with the text that had come."""
        response = self._opened.response
        try:
            with translated(response.request, self._request, response):
                yield
        except EventError as error:
            told = error.told
            message = told.message or "the stream tells an error without words"
            raise self._broken(message, told.code, told.type) from None
        except APIConnectionError as error:
            raise self._broken(error.message) from error

    def _broken(
        self, message: str, code: str | None = None, type_: str | None = None
    ) -> StreamBrokenError:
        return StreamBrokenError(
            message,
            text=self._reader.text,
            code=code,
            type=type_,
            request_id=self._opened.headers.get("x-request-id", self._request.request_id),
        )


class Stream(_Progress, Closing, Iterator[str]):
    """The text of an answer, piece by piece; `result` when it has ended.

    Leaving it early, by `close` or at the end of its `with` block, frees the engine at once.
    Iterating raises StreamBrokenError when it ends before its end, and APITimeoutError when
    nothing comes for as long as the call's time-out.
    """

    def __init__(self, call: Call[str], request: Request, opened: OpenStream) -> None:
        super().__init__(call, request, opened)
        self._texts = self._read()

    def __next__(self) -> str:
        """The next piece."""
        return next(self._texts)

    def close(self) -> None:
        """End it, wherever it is."""
        self._texts.close()
        self._opened.response.close()

    def _read(self) -> Generator[str, None, None]:
        try:
            with self._told():
                for piece in self._opened.response.iter_bytes():
                    yield from self._feed(piece)
                self._finish()
        finally:
            self._opened.response.close()


class AsyncStream(_Progress, AsyncClosing, AsyncIterator[str]):
    """`Stream`, awaited; a task that is cancelled while it waits for the next piece ends it."""

    def __init__(self, call: Call[str], request: Request, opened: OpenStream) -> None:
        super().__init__(call, request, opened)
        self._texts = self._read()

    async def __anext__(self) -> str:
        """The next piece."""
        return await anext(self._texts)

    async def close(self) -> None:
        """End it, wherever it is."""
        await self._texts.aclose()
        await self._opened.response.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        try:
            with self._told():
                async for piece in self._opened.response.aiter_bytes():
                    for text in self._feed(piece):
                        yield text
                self._finish()
        finally:
            await self._opened.response.aclose()
