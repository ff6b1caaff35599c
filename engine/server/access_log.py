"""One log line per request, when it ends."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger(__name__)

_QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Asked every few seconds by machines: logged at debug level."""

_GOOD_REQUEST_ID = re.compile(rb"[\w.:/+=-]{1,128}", re.ASCII)

_FIELDS = "shoal.log_fields"
"""Key of the ASGI scope."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that went before its answer began; only ever seen in logs."""


class AccessLog:
    """ASGI middleware: binds `request_id` for all log lines of a request, and writes the last.

    The id is the client's X-Request-Id, or a new one; the answer carries it. Handlers add
    fields to the line with `add_log_fields`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = time.monotonic()
        status = CLIENT_CLOSED_REQUEST
        scope[_FIELDS] = dict
        request_id = _request_id(dict(scope["headers"]).get(b"x-request-id", b""))

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log.log(
                    10 if scope["path"] in _QUIET_PATHS else 20,  # debug, info
                    "http.request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    duration_s=round(time.monotonic() - started_at, 4),
                    **scope[_FIELDS](),
                )


def add_log_fields(scope: Scope, fields: Callable[[], Mapping[str, object]]) -> None:
    """Put facts on the request's log line, asked for when it ends: counts, never texts."""
    scope[_FIELDS] = fields


def _request_id(wanted: bytes) -> bytes:
    """The client's id if it is harmless in a log and a header."""
    return wanted if _GOOD_REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex.encode()
