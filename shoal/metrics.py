"""Names and bucket edges of metrics, and a reader of the Prometheus text format.

A worker's names and edges are vLLM's, so one dashboard, one router and one autoscaler read both
engines; what is ours alone begins with `shoal:`. The router's begin with `shoal_router_`, the
autoscaler's with `shoal_autoscaler_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Gauges.
NUM_REQUESTS_RUNNING = "vllm:num_requests_running"
NUM_REQUESTS_WAITING = "vllm:num_requests_waiting"
HOST_CACHE_USAGE = "shoal:host_kv_cache_usage_perc"
"""Of the host's tier of the KV cache, in [0, 1]."""
KV_CACHE_USAGE_PERC = "vllm:kv_cache_usage_perc"
"""In [0, 1], whatever the name says."""
CACHE_CONFIG_INFO = "vllm:cache_config_info"

# Counters.
PREFIX_CACHE_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_CACHE_HITS = "vllm:prefix_cache_hits_total"
EXTERNAL_PREFIX_CACHE_QUERIES = "vllm:external_prefix_cache_queries_total"
EXTERNAL_PREFIX_CACHE_HITS = "vllm:external_prefix_cache_hits_total"
NUM_PREEMPTIONS = "vllm:num_preemptions_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
GENERATION_TOKENS = "vllm:generation_tokens_total"
REQUEST_SUCCESS = "vllm:request_success_total"
SCHEDULER_DECISIONS = "shoal:scheduler_decisions_total"

# Of SGLang, and of every client library for Prometheus; vLLM has no such gauges.
SGLANG_MAX_TOTAL_NUM_TOKENS = "sglang:max_total_num_tokens"
SGLANG_PAGE_SIZE = "sglang:page_size"
PROCESS_START_TIME = "process_start_time_seconds"

# Histograms.
TIME_TO_FIRST_TOKEN = "vllm:time_to_first_token_seconds"
INTER_TOKEN_LATENCY = "vllm:inter_token_latency_seconds"
TIME_PER_OUTPUT_TOKEN = "vllm:request_time_per_output_token_seconds"
E2E_REQUEST_LATENCY = "vllm:e2e_request_latency_seconds"
REQUEST_QUEUE_TIME = "vllm:request_queue_time_seconds"
REQUEST_PROMPT_TOKENS = "vllm:request_prompt_tokens"
REQUEST_GENERATION_TOKENS = "vllm:request_generation_tokens"
REQUEST_PARAMS_N = "vllm:request_params_n"
REQUEST_PARAMS_MAX_TOKENS = "vllm:request_params_max_tokens"

ALIASES: Mapping[str, tuple[str, ...]] = {
    NUM_REQUESTS_RUNNING: ("sglang:num_running_reqs",),
    NUM_REQUESTS_WAITING: ("sglang:num_queue_reqs",),
    KV_CACHE_USAGE_PERC: ("vllm:gpu_cache_usage_perc", "sglang:token_usage"),
    PROMPT_TOKENS: ("sglang:prompt_tokens_total",),
    PREFIX_CACHE_HITS: ("sglang:cached_tokens_total",),
    GENERATION_TOKENS: ("sglang:generation_tokens_total",),
    REQUEST_SUCCESS: ("sglang:num_requests_total",),
    TIME_TO_FIRST_TOKEN: ("sglang:time_to_first_token_seconds",),
    INTER_TOKEN_LATENCY: (
        "vllm:time_per_output_token_seconds", "sglang:inter_token_latency_seconds",
    ),
}  # fmt: skip
"""What other versions (vLLM before 0.10) and other engines call the same thing."""

# Bucket edges, as vLLM 0.32 has them.
REQUEST_LATENCY_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
    120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
TIME_TO_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
INTER_TOKEN_LATENCY_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_PARAMS_N_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0)

# The router's. Labels and meanings: shoal.router.telemetry.families.
ROUTER_REQUESTS = "shoal_router_requests_total"
ROUTER_REQUEST_DURATION = "shoal_router_request_duration_seconds"
ROUTER_TIME_TO_FIRST_TOKEN = "shoal_router_time_to_first_token_seconds"
ROUTER_CHUNK_GAP = "shoal_router_chunk_gap_seconds"
ROUTER_TOKENS = "shoal_router_tokens_total"
ROUTER_COST = "shoal_router_cost_total"
ROUTER_PREFIX_QUERY_TOKENS = "shoal_router_prefix_query_tokens_total"
ROUTER_PREFIX_HIT_TOKENS = "shoal_router_prefix_hit_estimate_tokens_total"
ROUTER_IN_FLIGHT = "shoal_router_in_flight_requests"
ROUTER_ENDPOINT_STATUS = "shoal_router_endpoint_status"
ROUTER_BREAKER_STATE = "shoal_router_breaker_state"
ROUTER_DECISIONS = "shoal_router_decisions_total"
ROUTER_UPSTREAM_CONNECTS = "shoal_router_upstream_connects_total"
ROUTER_RETRIES = "shoal_router_retries_total"
ROUTER_FAILOVERS = "shoal_router_failovers_total"
ROUTER_HEDGES = "shoal_router_hedges_total"
ROUTER_SHED = "shoal_router_shed_total"
ROUTER_QUEUED_REQUESTS = "shoal_router_queued_requests"
ROUTER_QUEUE_WAIT = "shoal_router_queue_wait_seconds"
ROUTER_HELD_REQUESTS = "shoal_router_held_requests"
"""Requests that wait for a model without an endpoint: what scales it from zero."""
ROUTER_ARRIVALS = "shoal_router_arrivals_total"
ROUTER_MODEL_QUEUED_REQUESTS = "shoal_router_model_queued_requests"
ROUTER_STREAM_TIME_TO_FIRST_TOKEN = "shoal_router_stream_time_to_first_token_seconds"
"""These three have the models' names at the workers, and count when it happens: for scaling."""
ROUTER_CONNECTIONS_OPEN = "shoal_router_connections_open"
ROUTER_CONNECTIONS = "shoal_router_connections_total"
ROUTER_LOG_LINES_DROPPED = "shoal_router_log_lines_dropped_total"
ROUTER_SPANS_DROPPED = "shoal_router_spans_dropped_total"

# The autoscaler's. Labels and meanings: shoal.autoscaler.telemetry.
AUTOSCALER_DESIRED_REPLICAS = "shoal_autoscaler_desired_replicas"
AUTOSCALER_READY_REPLICAS = "shoal_autoscaler_ready_replicas"
AUTOSCALER_PENDING_REPLICAS = "shoal_autoscaler_pending_replicas"
AUTOSCALER_UNSCHEDULABLE_REPLICAS = "shoal_autoscaler_unschedulable_replicas"
AUTOSCALER_NEEDED_LOAD = "shoal_autoscaler_needed_load_replicas"
AUTOSCALER_HELD_REQUESTS = "shoal_autoscaler_held_requests"
AUTOSCALER_SLO_ATTAINMENT = "shoal_autoscaler_slo_attainment_ratio"
AUTOSCALER_TOKENS_PER_COST = "shoal_autoscaler_output_tokens_per_cost"
AUTOSCALER_COST = "shoal_autoscaler_cost_per_hour"
AUTOSCALER_LAST_DECISION = "shoal_autoscaler_last_decision_timestamp_seconds"
AUTOSCALER_IS_LEADER = "shoal_autoscaler_is_leader"
AUTOSCALER_DECISIONS = "shoal_autoscaler_decisions_total"
AUTOSCALER_DECISION_REASONS = "shoal_autoscaler_decision_reasons_total"
AUTOSCALER_SCALE_FAILURES = "shoal_autoscaler_scale_failures_total"
AUTOSCALER_COLLECTOR_ERRORS = "shoal_autoscaler_collector_errors_total"
AUTOSCALER_DECISION_DURATION = "shoal_autoscaler_decision_duration_seconds"

AUTOSCALER_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROUTER_STREAM_TIME_TO_FIRST_TOKEN_BUCKETS = (
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0,
    4.0, 5.0, 6.0, 7.5, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0,
)  # fmt: skip
"""Objectives that people name are edges here: what is in time is counted, not guessed."""
ROUTER_DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip


def token_buckets(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, ... up to the longest request the model takes."""
    edges: list[float] = []
    decade = 1
    while True:
        for step in (1, 2, 5):
            if step * decade > max_model_len:
                return tuple(edges)
            edges.append(float(step * decade))
        decade *= 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


_LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?\s*$"
)
_LABEL = re.compile(r'\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def parse_prometheus_text(text: str) -> Iterator[Sample]:
    """Samples of a scrape in the Prometheus text format 0.0.4; comments are skipped.

    Raises ValueError with the line when one does not fit the format.
    """
    for line in text.split("\n"):  # not splitlines: labels may hold other line separators
        if not line or line.startswith("#") or line.isspace():
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"not a Prometheus sample: {line!r}")
        try:
            value = float(match["value"])
        except ValueError:
            raise ValueError(f"not a number in Prometheus sample: {line!r}") from None
        yield Sample(match["name"], _parse_labels(match["labels"] or "", line), value)


def _parse_labels(text: str, line: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None:
            raise ValueError(f"bad labels in Prometheus sample: {line!r}")
        labels[match[1]] = _ESCAPE.sub(lambda m: _UNESCAPED.get(m[1], m[0]), match[2])
        position = match.end()
    return labels
