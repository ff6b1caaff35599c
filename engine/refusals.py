"""What a client is told when the scheduler does not take its request, or never began it."""

from __future__ import annotations

from shoal.errors import InvalidRequest, QueueFull, QueueTimeout, RequestError

from .core.output import Rejection, RejectionKind


def rejected(rejection: Rejection) -> RequestError:
    """The scheduler's refusal as an error of the API."""
    match rejection.kind:
        case RejectionKind.QUEUE_FULL:
            return QueueFull(rejection.message, retry_after_s=rejection.retry_after_s)
        case RejectionKind.TOO_LONG:
            return InvalidRequest(rejection.message, param="prompt", code="context_length_exceeded")
        case RejectionKind.INVALID:
            return InvalidRequest(rejection.message, param="prompt")


def queue_timeout(limit_s: float | None) -> QueueTimeout:
    """It waited as long as `queue_timeout_s` allows."""
    assert limit_s is not None, "without a limit nothing is late"
    return QueueTimeout(
        f"The request was not started within {limit_s:g} s: the server is busy.",
        retry_after_s=limit_s,
    )
