"""The error body that every client of the API knows."""

from __future__ import annotations

import msgspec

from shoal.errors import RequestError


class ErrorDetail(msgspec.Struct):
    """What went wrong, in words and for machines."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """`{"error": {...}}`: the body of an error, or an event that ends a stream."""

    error: ErrorDetail


def error_body(error: RequestError) -> ErrorBody:
    """The body for one of our errors."""
    return ErrorBody(ErrorDetail(error.message, error.type, error.param, error.code))
