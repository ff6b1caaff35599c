"""Puts the server together: routes inside, guards around them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import shoal

from .access_log import AccessLog
from .admin import admin_routes
from .auth import ApiKeyAuth
from .body_limit import BodyLimit
from .chat import chat_routes
from .completions import completion_routes
from .context import ServerContext
from .errors import ErrorBoundary, http_exception_response
from .interface import Engine
from .metrics import ServerMetrics
from .settings import ServerSettings
from .tokenize import tokenize_routes


def create_app(engine: Engine, settings: ServerSettings) -> FastAPI:
    """The OpenAI-compatible API of one engine. It neither starts nor stops the engine."""
    context = ServerContext(engine=engine, settings=settings, metrics=ServerMetrics(engine))
    app = FastAPI(
        title="Shoal",
        version=shoal.__version__,
        middleware=_middleware(settings),
        exception_handlers={HTTPException: http_exception_response},
        redirect_slashes=False,
    )
    for routes in (completion_routes, chat_routes, tokenize_routes, admin_routes):
        app.include_router(routes(context))
    return app


def _middleware(settings: ServerSettings) -> list[Middleware]:
    """Outermost first. Errors are turned into answers inside CORS, so that web pages can read
    them, and inside the access log, so that it sees their status."""
    stack = [Middleware(AccessLog)]
    if settings.cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    stack.append(Middleware(ErrorBoundary))
    if settings.api_keys:
        stack.append(Middleware(ApiKeyAuth, api_keys=settings.api_keys))
    stack.append(Middleware(BodyLimit, max_bytes=settings.max_body_bytes))
    return stack
