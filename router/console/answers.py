"""Answers with data: no browser is to keep them."""

from __future__ import annotations

from starlette.responses import Response

NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def json_answer(content: bytes, *, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Response(content, status_code=status, media_type="application/json", headers=NO_STORE)
