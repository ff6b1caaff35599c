"""The HTTP answer for one of our errors."""

from __future__ import annotations

import http
import math
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from shoal.errors import RequestError
from shoal.openai.error import error_body

_encode = msgspec.json.Encoder().encode


def error_response(error: RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """In OpenAI's shape, with `headers` besides those that follow from the error."""
    told = dict(headers or {})
    if error.retry_after_s is not None:
        told["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        told["www-authenticate"] = "Bearer"
    return Response(
        _encode(error_body(error)),
        status_code=error.status,
        headers=told,
        media_type="application/json",
    )
