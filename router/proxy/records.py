"""What is written down about a request when it has ended: metrics, access log, usage, trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..settings.access import TelemetryConfig
from ..telemetry.access_log import AccessEntry, open_access_log
from ..telemetry.line_log import LineLog
from ..telemetry.request_span import Attempt as AttemptSpan
from ..telemetry.request_span import RequestSpan
from ..telemetry.usage import Usage, cost_of, usage_from_tail
from ..telemetry.usage_log import UsageEntry, open_usage_log
from .routes import split_target

if TYPE_CHECKING:
    from ..telemetry.tracing import Tracer
    from .exchange import Exchange
    from .gateway import Gateway

BATCH_S: Final = 0.05
_BATCH: Final = 256
_CLOSE_S: Final = 2.0
_OPERATIONS: Final = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "text_completion",
    b"/v1/embeddings": "embeddings",
    b"/v1/responses": "chat",
    b"/v1/messages": "chat",
}


class Records:
    """Owns the logs and the exporter of one data-plane process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = TelemetryConfig(access_log=None)
        self._access: LineLog[AccessEntry] | None = None
        self._usage: LineLog[UsageEntry] | None = None
        self._tracer: Tracer | None = None
        self._ended: list[Exchange] = []
        self._timer: asyncio.TimerHandle | None = None

    def configure(self, settings: TelemetryConfig) -> None:
        """Open what is named now; logs that stay are opened again (for log rotation).

        Raises ConfigError when a log cannot be opened.
        """
        old, self._settings = self._settings, settings
        if settings.access_log == old.access_log and self._access is not None:
            self._access.reopen()
        else:
            _close(self._access, 0.0)
            self._access = None
            if settings.access_log is not None:
                self._access = open_access_log(settings.access_log)
                self._gateway.metrics.watch_log("access", _dropped(self._access))
        if settings.usage_log == old.usage_log and self._usage is not None:
            self._usage.reopen()
        else:
            _close(self._usage, 0.0)
            self._usage = None
            if settings.usage_log is not None:
                self._usage = open_usage_log(settings.usage_log)
                self._gateway.metrics.watch_log("usage", _dropped(self._usage))
        if settings.otlp_endpoint != old.otlp_endpoint:
            _close(self._tracer, 0.0)
            self._tracer = None
            if settings.otlp_endpoint is not None:
                from ..telemetry.tracing import Tracer

                listen = self._gateway.config.listen
                tracer = Tracer(settings.otlp_endpoint, host=listen.host, port=listen.port)
                self._gateway.metrics.watch_spans(lambda: tracer.dropped)
                self._tracer = tracer

    def close(self) -> None:
        """Write what is buffered."""
        self.write()
        for owner in (self._access, self._usage, self._tracer):
            _close(owner, _CLOSE_S)

    def add(self, exchange: Exchange) -> None:
        """A request has ended. It is written down with others, `BATCH_S` later at most.

        Many at once cost half of one by one: this code is warm in the processor's caches then.
        """
        self._ended.append(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_S, self.write)
        elif len(self._ended) >= _BATCH:
            self.write()

    def write(self) -> None:
        """Write down all that have ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        for exchange in ended:
            self._write(exchange, exchange.ended_at)
            exchange.untie()

    def _write(self, exchange: Exchange, now: float) -> None:
        admission = exchange.admission
        duration_s = now - exchange.request.arrived_at
        if admission is None:
            if exchange.error:
                self._gateway.metrics.model("").finished(exchange.status, duration_s)
            self._log(exchange, now, None)
            return
        ttft_s = exchange.first_byte_at - exchange.request.arrived_at
        metrics = self._gateway.metrics
        counters = metrics.model(admission.model)
        for attempt in exchange.tried:
            decision = attempt.decision
            metrics.endpoint(attempt.endpoint_id).decided(decision.policy)
            counters.routed(admission.num_prompt_tokens, decision.num_cached_tokens)
        counters.finished(
            exchange.status,
            duration_s,
            ttft_s if exchange.first_byte_at else None,
            exchange.num_chunks if admission.wants_stream else 0,
        )
        usage = None
        if exchange.status == 200:
            usage = usage_from_tail(exchange.usage_bytes, exchange.first_bytes)
        if usage is not None:
            self._count(exchange, usage)
        if admission.is_counted:
            self._settle(exchange, usage)
        self._log(exchange, now, usage)
        if self._tracer is not None and exchange.trace is not None and exchange.trace.sampled:
            self._tracer.record(_span(exchange, now, usage))

    def _settle(self, exchange: Exchange, usage: Usage | None) -> None:
        """Tell the limits what it really took."""
        admission = exchange.admission
        assert admission is not None
        actual = expected = admission.num_expected_tokens
        if usage is not None:
            actual = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
        elif exchange.status >= 400:
            actual = 0
        now = self._gateway.now()
        self._gateway.limiter.settle(admission.principal.key_id, expected, actual, now)

    def _count(self, exchange: Exchange, usage: Usage) -> None:
        admission = exchange.admission
        assert admission is not None
        price = self._settings.prices.get(admission.model)
        cost = 0.0 if price is None else cost_of(usage, price)
        principal = admission.principal
        self._gateway.metrics.model(admission.model).used(principal.tenant, usage, cost)
        if self._usage is not None:
            self._usage.append(
                UsageEntry(
                    time.time(),
                    principal.key_id,
                    principal.tenant,
                    admission.model,
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    usage.completion_tokens,
                    cost,
                    exchange.request_id,
                )
            )

    def _log(self, exchange: Exchange, now: float, usage: Usage | None) -> None:
        if self._access is None:
            return
        request, admission, trace = exchange.request, exchange.admission, exchange.trace
        duration_s = now - request.arrived_at
        ttft_ms = None
        if exchange.first_byte_at:
            ttft_ms = (exchange.first_byte_at - request.arrived_at) * 1e3
        if admission is None:
            path = split_target(request.target)[0]
            tenant = key_id = model = ""
        else:
            path, model = admission.path, admission.model
            tenant, key_id = admission.principal.tenant, admission.principal.key_id
        # In the order of the fields, since names would cost as much as the values.
        entry = AccessEntry(
            time.time() - duration_s,
            exchange.request_id,
            request.method,
            path,
            exchange.status,
            duration_s * 1e3,
            tenant,
            key_id,
            model,
            exchange.tried[-1].endpoint_id if exchange.tried else "",
            ttft_ms,
            len(request.body),
            exchange.body_bytes_out,
            0 if usage is None else usage.prompt_tokens,
            0 if usage is None else usage.cached_tokens,
            0 if usage is None else usage.completion_tokens,
            exchange.queued_s * 1e3 or None,
            exchange.num_attempts,
            exchange.num_failovers,
            trace.trace_id if trace is not None and trace.sampled else "",
            exchange.error,
        )
        self._access.append(entry)


def _close(
    owner: LineLog[AccessEntry] | LineLog[UsageEntry] | Tracer | None, timeout_s: float
) -> None:
    """Let go of one; its thread writes what is left, and is waited for so long."""
    if owner is not None:
        owner.close(timeout_s)


def _dropped(log: LineLog[AccessEntry] | LineLog[UsageEntry]) -> Callable[[], int]:
    return lambda: log.dropped


def _span(exchange: Exchange, now: float, usage: Usage | None) -> RequestSpan:
    admission, trace = exchange.admission, exchange.trace
    assert admission is not None
    assert trace is not None
    waited = None
    if exchange.queued_s:
        waited = (exchange.waiting_since, exchange.waiting_since + exchange.queued_s)
    return RequestSpan(
        context=trace,
        operation=_OPERATIONS.get(admission.path, "generate_content"),
        method=exchange.request.method.decode("latin-1"),
        path=admission.path.decode("latin-1"),
        start_s=exchange.request.arrived_at,
        end_s=now,
        status=exchange.status,
        model=admission.model,
        response_model=admission.served_model,
        first_token_s=exchange.first_byte_at or None,
        queued_s=waited,
        attempts=tuple(
            AttemptSpan(
                attempt.endpoint_id,
                attempt.entry.endpoint.url,
                attempt.started_at,
                attempt.ended_at or now,
                None if attempt.head is None else attempt.head.status,
                None if attempt.failure is None else str(attempt.failure),
                attempt.decision.policy,
                attempt.decision.reason,
                attempt.decision.candidates[0].reasons if attempt.decision.candidates else {},
            )
            for attempt in exchange.tried
        ),
        failovers=exchange.num_failovers,
        usage=usage,
        error=exchange.error or None,
        request_id=exchange.request_id.decode("latin-1"),
        tenant=admission.principal.tenant,
    )
