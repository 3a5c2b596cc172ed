"""Gives every answer of the application a request id, and unforeseen errors an OpenAI shape."""

import logging
import re
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sagepool_crds import names
from sagepool_router.errors import RouterError

_logger: Final = logging.getLogger(__name__)
_USABLE: Final = re.compile(r"[\x21-\x7e]{1,128}")


def error_response(error: RouterError) -> Response:
    """A router's error as a response of the application."""
    return Response(error.body(), error.status, dict(error.headers), media_type="application/json")


class RequestIds:
    """The outermost layer of the application.

    Args:
        app: what answers.
        make_id: makes an id for requests that bring none that is usable.
    """

    def __init__(self, app: ASGIApp, make_id: Callable[[], bytes]) -> None:
        self._app = app
        self._make_id = make_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(names.REQUEST_ID_HEADER, "")
        request_id = given if _USABLE.fullmatch(given) else self._make_id().decode()
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)[names.REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # Here and not in Starlette's own handler, whose answer would carry no id.
            _logger.exception(
                "request failed", extra={"request_id": request_id, "path": scope["path"]}
            )
            if has_begun:
                raise
            error = RouterError("the router failed: its log says why", "internal_error")
            await error_response(error)(scope, receive, send_with_id)
