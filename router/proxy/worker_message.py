"""A request as a worker gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attempt import Attempt


def worker_message(attempt: Attempt) -> bytes:
    """Its head and body: the client's, or the call that continues a stream."""
    exchange, call = attempt.exchange, attempt.call
    admission = exchange.admission
    assert admission is not None
    memo = admission.memo
    if call is not None:
        path, body = call.path.encode(), call.body
    else:
        continuation = exchange.continuation
        path = memo.path + memo.query if memo.query else memo.path
        body = admission.body if continuation is None else continuation.body
    trace = exchange.trace
    return b"%b%bx-request-id: %b\r\n%bcontent-length: %b\r\n\r\n%b" % (
        attempt.entry.pool.address.post(path),
        memo.forwarded,
        exchange.request_id,
        b"" if trace is None else b"traceparent: %b\r\n" % trace.traceparent,
        str(len(body)).encode(),
        body,
    )
