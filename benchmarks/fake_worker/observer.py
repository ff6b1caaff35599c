"""Feeds the worker's metrics from its streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shoal.engine.server.metrics import RequestMetrics

from .engine import Sequence


class StreamObserver:
    """Measures one answer. Its tokens become metrics in one go at the end, not one by one."""

    def __init__(self, metrics: RequestMetrics, sequence: Sequence) -> None:
        self._metrics = metrics
        self._sequence = sequence
        self._first = 0.0
        self._last = 0.0
        self._gaps: list[float] = []
        self._num_tokens = 0
        self._reason = "abort"

    def tokens(self, count: int) -> None:
        now = time.perf_counter()
        if self._num_tokens:
            self._gaps.append(now - self._last)
        else:
            self._first = now
            arrival = self._sequence.request.arrival_time
            self._metrics.time_to_first_token.observe(now - arrival)
        self._last = now
        self._num_tokens += count
        self._metrics.generation_tokens.inc(count)

    def finish(self, reason: str) -> None:
        self._reason = reason

    def end(self) -> None:
        """Count the answer, whole or broken."""
        metrics, request = self._metrics, self._sequence.request
        metrics.finished(self._reason)
        for gap in self._gaps:
            metrics.inter_token_latency.observe(gap)
        if request.first_scheduled_time is not None:
            metrics.queue_time.observe(request.first_scheduled_time - request.arrival_time)
            metrics.prompt_tokens.inc(request.num_prompt_tokens)
        if self._reason == "abort":
            return
        metrics.e2e_latency.observe(time.perf_counter() - request.arrival_time)
        metrics.num_prompt_tokens.observe(request.num_prompt_tokens)
        metrics.num_generation_tokens.observe(self._num_tokens)
        if self._num_tokens > 1:
            tpot = (self._last - self._first) / (self._num_tokens - 1)
            metrics.time_per_output_token.observe(tpot)


@contextmanager
def observe(metrics: RequestMetrics, sequence: Sequence) -> Iterator[StreamObserver]:
    """An observer that counts the answer however it ends."""
    observer = StreamObserver(metrics, sequence)
    try:
        yield observer
    finally:
        observer.end()
