"""Bound of the request body, whether its length is announced or not."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shoal.errors import PayloadTooLarge


class BodyLimit:
    """ASGI middleware: raises PayloadTooLarge before more than `max_bytes` are held in memory."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large(f"{int(announced)} bytes")
        num_bytes = 0

        async def count_and_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large(f"more than {self._max_bytes} bytes")
            return message

        await self._app(scope, count_and_receive, send)

    def _too_large(self, size: str) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body has {size}; the limit is {self._max_bytes} bytes.")
