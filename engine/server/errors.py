"""Every error leaves the server in OpenAI's shape: ours, the router's 404 and 405, and faults."""

from __future__ import annotations

import asyncio
import http

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.errors import EngineUnavailable, InternalError, RequestError
from shoal.openai.error import ErrorBody, ErrorDetail
from shoal.web.disconnect import ClientDisconnected
from shoal.web.error_response import error_response as openai_response

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)


def error_response(error: RequestError) -> Response:
    """The HTTP answer for one of our errors."""
    if error.status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        # There is more body than we will read.
        return openai_response(error, {"connection": "close"})
    return openai_response(error)


async def http_exception_response(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, which are no errors of ours, in the same shape."""
    if not isinstance(error, HTTPException):
        raise error
    reason = http.HTTPStatus(error.status_code)
    method, path = request.method, request.url.path
    message = {
        404: f"There is no {path} here. The API is under /v1, its schema at /openapi.json.",
        405: f"{path} does not take {method}.",
    }.get(error.status_code, error.detail)
    code = reason.phrase.lower().replace(" ", "_")
    body = ErrorBody(ErrorDetail(message, "invalid_request_error", None, code))
    return Response(
        _encode(body),
        status_code=error.status_code,
        headers=error.headers,
        media_type="application/json",
    )


class ErrorBoundary:
    """ASGI middleware: nothing passes it as an exception.

    After the header is sent there is no status left to give: streams report their own errors
    as a last event, and anything else can only cut the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
            return
        except ClientDisconnected:
            return
        except RequestError as caught:
            if started:
                raise
            error = caught
        except asyncio.CancelledError:
            # The server cancels what still runs when its drain timeout is over.
            if started:
                raise
            error = EngineUnavailable("The server is shutting down.", retry_after_s=1.0)
        except Exception:
            _log.exception("http.fault", path=scope["path"])
            if started:
                raise
            error = InternalError("The server made a mistake; its log has the details.")
        await error_response(error)(scope, receive, send)
