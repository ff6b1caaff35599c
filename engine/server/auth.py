"""API keys, as `Authorization: Bearer KEY`."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from shoal.errors import Unauthorized

OPEN_PATHS = frozenset({"/health", "/ready", "/version", "/metrics"})
"""Open without a key: kubelets and Prometheus carry none. They show counts, never contents."""


class ApiKeyAuth:
    """ASGI middleware: raises Unauthorized unless the request carries one of the keys."""

    def __init__(self, app: ASGIApp, *, api_keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            self._check(dict(scope["headers"]).get(b"authorization", b""))
        await self._app(scope, receive, send)

    def _check(self, header: bytes) -> None:
        scheme, _, token = header.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized("No API key. Send it as a header: 'Authorization: Bearer KEY'.")
        # Every key is compared, in constant time each: how long it takes tells nothing.
        num_equal = sum(hmac.compare_digest(token, key) for key in self._keys)
        if not num_equal:
            raise Unauthorized("The API key is not one of this server's.")
