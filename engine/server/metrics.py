"""What the worker tells Prometheus: per request measured here, per step read from the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal import metrics as names

from ..output import EngineStats, RequestOutput

_LABELS = ["model_name", "engine"]
_ENGINE_INDEX = "0"
"""vLLM numbers its data-parallel engines; we have one a server."""


class Measured(Protocol):
    """What metrics read of an engine; anything but `is_ready` only once that is true."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def model_name(self) -> str: ...

    @property
    def max_model_len(self) -> int: ...

    def stats(self) -> EngineStats: ...


class ServerMetrics:
    """The registry of one server; `text()` is the page at /metrics."""

    def __init__(self, engine: Measured) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(EngineCollector(engine))

    @cached_property
    def requests(self) -> RequestMetrics:
        """Made when the model is there: the name and the bucket edges are the model's."""
        return RequestMetrics(
            self._registry,
            model_name=self._engine.model_name,
            max_model_len=self._engine.max_model_len,
        )

    def text(self) -> bytes:
        """All samples, in the Prometheus text format 0.0.4."""
        if self._engine.is_ready:
            self.requests  # noqa: B018  histograms are there, empty, before the first request
        return generate_latest(self._registry)


class EngineCollector(Collector):
    """Reads the engine's numbers when Prometheus asks, so that a step pays nothing."""

    def __init__(self, engine: Measured) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Gauges and counters of the scheduler; nothing before the model is loaded."""
        if not self._engine.is_ready:
            return
        stats = self._engine.stats()
        scheduler = stats.scheduler
        labels = [self._engine.model_name, _ENGINE_INDEX]
        for name, text, gauge in (
            (names.NUM_REQUESTS_RUNNING, "Requests in the running batch.", scheduler.num_running),
            (names.NUM_REQUESTS_WAITING, "Requests in the queue.", scheduler.num_waiting),
            (names.KV_CACHE_USAGE_PERC, "Share of KV blocks in use, 0 to 1.",
             scheduler.kv_cache_usage),
            (names.HOST_CACHE_USAGE, "Share of the host's KV blocks that hold a prefix, 0 to 1.",
             scheduler.host_cache_usage),
        ):  # fmt: skip
            family = GaugeMetricFamily(name, text, labels=_LABELS)
            family.add_metric(labels, gauge)
            yield family
        for name, text, count in (
            (names.NUM_PREEMPTIONS, "Requests that lost their blocks.", scheduler.num_preemptions),
            (names.PREFIX_CACHE_QUERIES, "Prompt tokens looked up in the prefix cache.",
             scheduler.prefix_cache_queries),
            (names.PREFIX_CACHE_HITS, "Prompt tokens found in the prefix cache.",
             scheduler.prefix_cache_hits),
            (names.EXTERNAL_PREFIX_CACHE_QUERIES,
             "Prompt tokens not found in the prefix cache, looked up in the host's memory.",
             scheduler.external_prefix_cache_queries),
            (names.EXTERNAL_PREFIX_CACHE_HITS, "Prompt tokens found there.",
             scheduler.external_prefix_cache_hits),
        ):  # fmt: skip
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            counter.add_metric(labels, count)
            yield counter
        decisions = CounterMetricFamily(
            names.SCHEDULER_DECISIONS,
            "Why requests did not run, or stopped running, in a step.",
            labels=[*_LABELS, "reason"],
        )
        for reason, count in scheduler.reasons.items():
            decisions.add_metric([*labels, reason], count)
        yield decisions
        info = GaugeMetricFamily(
            names.CACHE_CONFIG_INFO,
            "Facts about the KV cache; always 1.",
            labels=[*_LABELS, "block_size", "num_gpu_blocks"],
        )
        info.add_metric([*labels, str(stats.block_size), str(stats.num_blocks)], 1)
        yield info


class RequestMetrics:
    """Histograms and counters fed by the requests of this server."""

    def __init__(self, registry: CollectorRegistry, *, model_name: str, max_model_len: int) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            parent = Histogram(name, text, _LABELS, buckets=buckets, registry=registry)
            return parent.labels(model_name, _ENGINE_INDEX)

        def counter(name: str, text: str) -> Counter:
            parent = Counter(name, text, _LABELS, registry=registry)
            return parent.labels(model_name, _ENGINE_INDEX)

        latency = names.REQUEST_LATENCY_BUCKETS
        tokens = names.token_buckets(max_model_len)
        self.prompt_tokens = counter(names.PROMPT_TOKENS, "Prompt tokens of started requests.")
        self.generation_tokens = counter(names.GENERATION_TOKENS, "Tokens generated.")
        self.time_to_first_token = histogram(
            names.TIME_TO_FIRST_TOKEN,
            "From arrival to the first token.",
            names.TIME_TO_FIRST_TOKEN_BUCKETS,
        )
        self.inter_token_latency = histogram(
            names.INTER_TOKEN_LATENCY,
            "Between two outputs of a request.",
            names.INTER_TOKEN_LATENCY_BUCKETS,
        )
        self.time_per_output_token = histogram(
            names.TIME_PER_OUTPUT_TOKEN,
            "Mean time per token after the first, of finished requests.",
            names.INTER_TOKEN_LATENCY_BUCKETS,
        )
        self.e2e_latency = histogram(
            names.E2E_REQUEST_LATENCY, "From arrival to the last token.", latency
        )
        self.queue_time = histogram(
            names.REQUEST_QUEUE_TIME, "From arrival to the first step.", latency
        )
        self.num_prompt_tokens = histogram(
            names.REQUEST_PROMPT_TOKENS, "Prompt tokens of finished requests.", tokens
        )
        self.num_generation_tokens = histogram(
            names.REQUEST_GENERATION_TOKENS, "Generated tokens of finished requests.", tokens
        )
        self.params_max_tokens = histogram(
            names.REQUEST_PARAMS_MAX_TOKENS, "max_tokens of requests.", tokens
        )
        self.params_n = histogram(
            names.REQUEST_PARAMS_N, "n of requests.", names.REQUEST_PARAMS_N_BUCKETS
        )
        finished = Counter(
            names.REQUEST_SUCCESS,
            "Requests that ended, by how.",
            [*_LABELS, "finished_reason"],
            registry=registry,
        )
        self._finished = {
            reason: finished.labels(model_name, _ENGINE_INDEX, reason)
            for reason in ("stop", "length", "abort", "error")
        }

    def finished(self, reason: str) -> None:
        """Count one request that ended."""
        self._finished[reason].inc()


class RequestObserver:
    """Measures one sequence from its outputs: about 3 us per output."""

    def __init__(
        self,
        metrics: RequestMetrics,
        *,
        num_prompt_tokens: int,
        max_tokens: int,
        arrival_time: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._num_prompt_tokens = num_prompt_tokens
        self._arrival_time = arrival_time
        self._now = now
        self._first_token_time = 0.0
        self._last_token_time = 0.0
        self._num_tokens = 0
        self._finish_reason = "abort"
        metrics.params_max_tokens.observe(max_tokens)

    def output(self, output: RequestOutput) -> None:
        """Take note of one output."""
        metrics = self._metrics
        if output.queue_s is not None:
            metrics.queue_time.observe(output.queue_s)
            metrics.prompt_tokens.inc(self._num_prompt_tokens)
        num_new = len(output.token_ids)
        if num_new:
            now = self._now()
            if self._num_tokens:
                metrics.inter_token_latency.observe(now - self._last_token_time)
            else:
                self._first_token_time = now
                metrics.time_to_first_token.observe(now - self._arrival_time)
            self._last_token_time = now
            self._num_tokens += num_new
            metrics.generation_tokens.inc(num_new)
        if output.finish_reason is not None:
            self._finish_reason = output.finish_reason

    def failed(self) -> None:
        """The engine refused the sequence or gave it up."""
        self._finish_reason = "error"

    def end(self) -> None:
        """The sequence ended: by itself, or it was aborted when no output said so."""
        metrics = self._metrics
        metrics.finished(self._finish_reason)
        if self._finish_reason not in ("stop", "length"):
            return
        metrics.e2e_latency.observe(self._now() - self._arrival_time)
        metrics.num_prompt_tokens.observe(self._num_prompt_tokens)
        metrics.num_generation_tokens.observe(self._num_tokens)
        if self._num_tokens > 1:
            decode_s = self._last_token_time - self._first_token_time
            metrics.time_per_output_token.observe(decode_s / (self._num_tokens - 1))
