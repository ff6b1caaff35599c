"""Bodies of requests to an admin API: small ones."""

from __future__ import annotations

from starlette.requests import Request

from shoal.errors import PayloadTooLarge


async def read_body(request: Request, max_bytes: int) -> bytes:
    """All of it. Raises PayloadTooLarge before more than that has been kept."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise PayloadTooLarge(f"The body is over {max_bytes} bytes.")
    return bytes(body)
