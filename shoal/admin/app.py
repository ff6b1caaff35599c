"""Around the routes of an admin API: who may come in, and errors in OpenAI's shape. FastAPI."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.errors import (
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestError,
)
from shoal.web.error_response import error_response

from .auth import AdminAuth

AddRoutes: TypeAlias = Callable[[FastAPI], None]
"""Adds routes of somebody else to an admin app; they are behind its keys."""
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)


def guarded(
    app: FastAPI,
    *,
    name: str,
    keys: Callable[[], tuple[str, ...]],
    keys_setting: str,
    open_paths: frozenset[str] = frozenset(),
) -> ASGIApp:
    """The app of the program `name` with its errors and keys; arguments as of `AdminAuth`."""

    async def fault(request: Request, error: Exception) -> Response:
        _log.error("admin.fault", path=request.url.path, exc_info=error)
        said = f"The {name} made a mistake; its log has the details."
        return error_response(InternalError(said))

    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(Exception, fault)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    return ErrorBoundary(
        AdminAuth(app, keys=keys, keys_setting=keys_setting, open_paths=open_paths), name
    )


class ErrorBoundary:
    """ASGI middleware: errors from outside the web framework leave in OpenAI's shape too.

    What the framework itself has answered and raises once more ends here.
    """

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except RequestError as error:
            if not started:
                await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:
            if started:
                raise
            ending = EngineUnavailable(f"The {self._name} is ending.", retry_after_s=1.0)
            await error_response(ending)(scope, receive, send)
        except Exception:
            if not started:
                raise


def json_response(body: Any, *, status: int = 200) -> Response:
    return Response(_encode(body), status_code=status, media_type="application/json")


async def _request_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the web framework."""
    path = request.url.path
    if getattr(error, "status_code", 404) == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (getattr(error, "headers", None) or {}).get("Allow", "GET")
        return error_response(
            MethodNotAllowed(f"{path} does not take {request.method}.", allow=allow)
        )
    return error_response(
        NotFound(f"There is no {path} here. The admin API's schema is at /openapi.json.")
    )


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return error_response(InvalidRequest(f"{name}: {first['msg']}", param=name))
