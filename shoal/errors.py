"""Every error Shoal raises on purpose.

    ShoalError
    ├── ConfigError               a setting is wrong; the process cannot start
    ├── ModelError                the model cannot be served
    │   ├── ModelNotFound         nothing at that path, repository or wheel
    │   ├── DownloadFailed        cut off, refused, or the checksum differs
    │   └── UnsupportedModel      refused by name, with the list of what is supported
    ├── ScaleFailed               a number of replicas was not taken; the next decision asks again
    ├── ClusterError              the Kubernetes API server cannot be reached, or did not do it
    └── RequestError              answered over HTTP in the OpenAI error shape
        ├── InvalidRequest        400
        ├── Unauthorized          401
        ├── Forbidden             403
        ├── NotFound              404
        ├── MethodNotAllowed      405
        ├── RequestTimeout        408
        ├── PayloadTooLarge       413
        ├── RateLimited           429 + Retry-After
        ├── QueueFull             429 + Retry-After
        ├── HeadersTooLarge       431
        ├── InternalError         500
        ├── BadGateway            502
        │   └── StreamCut
        ├── QueueTimeout          503 + Retry-After
        ├── EngineUnavailable     503 + Retry-After
        ├── NoEndpoint            503 + Retry-After
        └── GatewayTimeout        504

*Full* inside a core is a value, not an exception; the shell turns it into one of these.
"""

from __future__ import annotations

from typing import ClassVar


class ShoalError(Exception):
    """Root of the tree: catch it to catch everything Shoal raises on purpose."""


class ConfigError(ShoalError, ValueError):
    """A setting is wrong; the message names it, its value and what is allowed."""


class ModelError(ShoalError):
    """The model cannot be served."""


class ModelNotFound(ModelError):
    """Nothing to load at the given path, repository or wheel."""


class DownloadFailed(ModelError):
    """A download was cut off, refused, or its checksum differs."""


class UnsupportedModel(ModelError):
    """The model needs something Shoal does not have; the message lists what it has."""


class ScaleFailed(ShoalError):
    """A platform did not take a number of replicas."""


class ClusterError(ShoalError):
    """The Kubernetes API server cannot be reached (`status` None), or refused with `status`."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RequestError(ShoalError):
    """A request that is answered with an HTTP error in the OpenAI error shape.

    `param` names the offending field, `code` is the machine-readable reason, and
    `retry_after_s` (seconds) becomes the Retry-After header when it is set.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s


class InvalidRequest(RequestError):
    """400: the request itself is wrong; sending it again will not help."""

    status = 400
    type = "invalid_request_error"


class Unauthorized(RequestError):
    """401: no API key, or not one of ours."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(RequestError):
    """403: a good key that may not do this."""

    status = 403
    type = "permission_error"
    default_code = "forbidden"


class NotFound(RequestError):
    """404: no such model or route."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(RequestError):
    """405: the route exists, the method does not. `allow` becomes the Allow header."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(RequestError):
    """408: the client did not send its request in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class PayloadTooLarge(RequestError):
    """413: the body is over the configured limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class RateLimited(RequestError):
    """429: the key has used up its share; try again after `retry_after_s`."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class HeadersTooLarge(RequestError):
    """431: more header bytes or fields than are taken."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class QueueFull(RequestError):
    """429: the bounded queue is full; try again after `retry_after_s`."""

    status = 429
    type = "rate_limit_error"
    default_code = "queue_full"


class QueueTimeout(RequestError):
    """503: the request waited longer than its queue deadline and was never started."""

    status = 503
    type = "service_unavailable"
    default_code = "queue_timeout"


class EngineUnavailable(RequestError):
    """503: the engine core is dead, restarting or shutting down."""

    status = 503
    type = "service_unavailable"
    default_code = "engine_unavailable"


class NoEndpoint(RequestError):
    """503: the router has no worker that can take the request now."""

    status = 503
    type = "service_unavailable"
    default_code = "no_endpoint"


class BadGateway(RequestError):
    """502: every worker that was tried broke off before its answer."""

    status = 502
    type = "server_error"
    default_code = "bad_gateway"


class StreamCut(BadGateway):
    """The worker of a stream broke off, and no other can go on: the stream's last event."""

    type = "upstream_error"
    default_code = "stream_cut"


class GatewayTimeout(RequestError):
    """504: no worker that was tried began its answer in time."""

    status = 504
    type = "server_error"
    default_code = "gateway_timeout"


class InternalError(RequestError):
    """500: a fault of ours, confined to one request."""

    status = 500
    type = "internal_error"
    default_code = "internal_error"
