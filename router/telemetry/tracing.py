"""Spans of sampled requests, exported over OTLP; made at the end of a request from its times.

Nothing is paid for a request that is not sampled, and the OpenTelemetry SDK is imported by `Tracer`
alone. Attributes follow the conventions for HTTP servers and for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); ours begin with `shoal.`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from shoal import __version__

from .request_span import Attempt, RequestSpan

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

Attributes = dict[str, "AttributeValue"]

SERVICE_NAME = "shoal-router"
_MAX_PENDING = 4096
_BATCH = 512
_EXPORT_TIMEOUT_S = 5.0
_FLUSH_S = 1.0


class _Child(NamedTuple):
    name: str
    kind: SpanKind
    start_s: float
    end_s: float
    attributes: Attributes
    error: str | None


class _CountingExporter(SpanExporter):
    """Counts what was taken out of the queue, and what the collector did not take."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.taken = 0
        self.failed = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Tracer:
    """Owns the thread that exports. Only made when `telemetry.otlp_endpoint` is set."""

    def __init__(self, otlp_endpoint: str, *, host: str, port: int) -> None:
        """`host` and `port` are the router's own, for `server.address`."""
        self._server: Attributes = {"server.address": host, "server.port": port}
        self._resource = Resource({"service.name": SERVICE_NAME, "service.version": __version__})
        self._scope = InstrumentationScope("shoal.router", __version__)
        self._exporter = _CountingExporter(
            OTLPSpanExporter(
                endpoint=otlp_endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_TIMEOUT_S
            )
        )
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=2 * _MAX_PENDING,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_FLUSH_S * 1000,
            export_timeout_millis=_EXPORT_TIMEOUT_S * 1000,
        )
        self._recorded = 0
        self._refused = 0

    @property
    def dropped(self) -> int:
        """Spans the collector did not get, so far."""
        return self._refused + self._exporter.failed

    def record(self, request: RequestSpan) -> None:
        """Queue the spans of a request that is sampled; about 30 us. Never blocks."""
        context = request.context
        if not context.sampled:
            return
        if self._recorded - self._exporter.taken >= _MAX_PENDING:
            self._refused += 1 + len(request.attempts) + (request.queued_s is not None)
            return
        # The request's times are monotonic; spans want the wall's.
        offset_ns = time.time_ns() - time.monotonic_ns()
        trace_id = int(context.trace_id, 16)
        server = _span_context(trace_id, int(context.span_id, 16))
        client = None
        if context.parent_id is not None:
            client = _span_context(trace_id, int(context.parent_id, 16), is_remote=True)
        for child in _children(request):
            self._end(
                child,
                _span_context(trace_id, random.getrandbits(64) or 1),
                parent=server,
                offset_ns=offset_ns,
            )
        self._end(
            _Child(
                _name(request), SpanKind.SERVER, request.start_s, request.end_s,
                self._server | _server_attributes(request), request.error,
            ),
            server, parent=client, offset_ns=offset_ns, events=_events(request, offset_ns),
        )  # fmt: skip

    def close(self, timeout_s: float = 2.0) -> None:
        """Export what is left and end the thread; waits for that at most `timeout_s`."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _end(
        self,
        span: _Child,
        context: SpanContext,
        *,
        parent: SpanContext | None,
        offset_ns: int,
        events: Sequence[Event] = (),
    ) -> None:
        if span.error is not None:
            span.attributes["error.type"] = span.error
        self._recorded += 1
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                events=events,
                kind=span.kind,
                status=Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR),
                start_time=_unix_ns(span.start_s, offset_ns),
                end_time=_unix_ns(span.end_s, offset_ns),
                instrumentation_scope=self._scope,
            )
        )


def _span_context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


def _unix_ns(monotonic_s: float, offset_ns: int) -> int:
    return int(monotonic_s * 1e9) + offset_ns


def _name(request: RequestSpan) -> str:
    return f"{request.operation} {request.model}"[:256]


def _server_attributes(request: RequestSpan) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": request.operation,
        "gen_ai.request.model": request.model[:256],
        "http.request.method": request.method,
        "url.path": request.path[:256],
        "http.response.status_code": request.status,
        "shoal.request_id": request.request_id,
        "shoal.tenant": request.tenant,
        "shoal.attempts": len(request.attempts),
        "shoal.failovers": request.failovers,
    }
    if request.response_model is not None:
        attributes["gen_ai.response.model"] = request.response_model[:256]
    if request.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = request.usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = request.usage.completion_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = request.usage.cached_tokens
    if request.first_token_s is not None:
        attributes["shoal.time_to_first_token_s"] = request.first_token_s - request.start_s
    return attributes


def _events(request: RequestSpan, offset_ns: int) -> tuple[Event, ...]:
    if request.first_token_s is None:
        return ()
    return (Event("first_token", timestamp=_unix_ns(request.first_token_s, offset_ns)),)


def _children(request: RequestSpan) -> Iterator[_Child]:
    if request.queued_s is not None:
        start_s, end_s = request.queued_s
        yield _Child("queue", SpanKind.INTERNAL, start_s, end_s, {}, None)
    for number, attempt in enumerate(request.attempts, 1):
        yield _Child(
            _name(request), SpanKind.CLIENT, attempt.start_s, attempt.end_s,
            _attempt_attributes(request, attempt, number), attempt.error,
        )  # fmt: skip


def _attempt_attributes(request: RequestSpan, attempt: Attempt, number: int) -> Attributes:
    address = urlsplit(attempt.url)
    attributes: Attributes = {
        "gen_ai.operation.name": request.operation,
        "gen_ai.request.model": request.model[:256],
        "server.address": address.hostname or attempt.url,
        "shoal.endpoint": attempt.endpoint_id,
        "shoal.attempt": number,
        "shoal.decision.policy": attempt.policy,
        "shoal.decision.reason": attempt.decision,
    }
    if address.port is not None:
        attributes["server.port"] = address.port
    if attempt.status is not None:
        attributes["http.response.status_code"] = attempt.status
    attributes.update(_prefixed(attempt.reasons))
    return attributes


def _prefixed(reasons: Mapping[str, float]) -> Attributes:
    return {f"shoal.decision.{name}": value for name, value in reasons.items()}
