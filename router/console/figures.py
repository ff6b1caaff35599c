"""From samples to what the console shows: columns for its charts, and the numbers at its head.

Pure. Rates are per second; None stands for *nothing to say*, never for zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .histogram import percentile, share_within
from .history import History
from .samples import TTFT_EDGES, ModelSample, Sample, join_model, newest, span_of

RATE_SPAN_S = 10.0
TTFT_SPAN_S = 60.0
ATTAINMENT_SPAN_S = 300.0
_SECONDS_PER_HOUR = 3600.0
_NOW_S = 0.1
"""The newest sample."""
_SLACK_S = 1.0
"""Samples are not exactly two seconds apart."""
Column = list[float | None]


class Figures(msgspec.Struct, kw_only=True):
    """How a model does now."""

    requests_per_s: float
    failed_per_s: float
    input_tokens_per_s: float
    cached_share: float | None
    """Of the input tokens of a minute, in [0, 1]."""
    output_tokens_per_s: float
    tokens_per_cost: float | None
    """Output tokens for one unit of money, over a minute; None: nothing costs anything."""
    cost_per_hour: float
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    """Of a minute."""
    attainment: float | None
    """Share of first tokens within the target over five minutes, in [0, 1]."""
    ready: float
    in_flight: float
    queued: float
    held: float


def figures(
    history: History, model: str, *, target_s: float, cost_per_hour: float = 0.0
) -> Figures:
    """`cost_per_hour`: what an autoscaler says, for endpoints that name no price of their own."""
    now, rates, minute, minutes = (
        history.latest(span_s) for span_s in (_NOW_S, RATE_SPAN_S, TTFT_SPAN_S, ATTAINMENT_SPAN_S)
    )
    level, rate = join_model(now, model), join_model(rates, model)
    last_minute, last_minutes = join_model(minute, model), join_model(minutes, model)
    rates_s, minute_s = span_of(rates), span_of(minute)
    cost = level.cost_per_hour or cost_per_hour
    return Figures(
        requests_per_s=_per_s(rate.requests, rates_s),
        failed_per_s=_per_s(rate.failed, rates_s),
        input_tokens_per_s=_per_s(rate.input_tokens, rates_s),
        cached_share=_share(last_minute.cached_tokens, last_minute.input_tokens),
        output_tokens_per_s=_per_s(rate.output_tokens, rates_s),
        tokens_per_cost=_per_cost(_per_s(last_minute.output_tokens, minute_s), cost),
        cost_per_hour=cost,
        ttft_p50_s=percentile(last_minute.ttft_counts, TTFT_EDGES, 0.50),
        ttft_p99_s=percentile(last_minute.ttft_counts, TTFT_EDGES, 0.99),
        attainment=share_within(last_minutes.ttft_counts, TTFT_EDGES, target_s),
        ready=level.ready,
        in_flight=level.in_flight,
        queued=now[-1].queued if now else 0.0,
        held=level.held,
    )


def columns(
    samples: Sequence[Sample], model: str, *, since: float, target_s: float
) -> dict[str, Column]:
    """One row a sample after `since`, as columns. What is counted is of the 10 s before it."""
    rows = [
        _row(newest(reversed(samples[: index + 1]), RATE_SPAN_S - _SLACK_S), model, target_s)
        for index, sample in enumerate(samples)
        if sample.time > since
    ]
    return {name: [_short(row[name]) for row in rows] for name in COLUMNS}


COLUMNS = (
    "time", "requests", "failed", "input", "cached", "output", "per_cost", "ttft_p50", "ttft_p99",
    "attainment", "queued", "held", "in_flight", "ready", "kv",
)  # fmt: skip


def _row(recent: Sequence[Sample], model: str, target_s: float) -> dict[str, float | None]:
    """Levels are of the last of them."""
    sample = recent[-1]
    counted, level = join_model(recent, model), sample.models.get(model) or ModelSample()
    span_s, ttft = span_of(recent), counted.ttft_counts
    output_per_s = _per_s(counted.output_tokens, span_s)
    return {
        "time": sample.time,
        "requests": _per_s(counted.requests, span_s),
        "failed": _per_s(counted.failed, span_s),
        "input": _per_s(counted.input_tokens, span_s),
        "cached": _per_s(counted.cached_tokens, span_s),
        "output": output_per_s,
        "per_cost": _per_cost(output_per_s, level.cost_per_hour),
        "ttft_p50": percentile(ttft, TTFT_EDGES, 0.50),
        "ttft_p99": percentile(ttft, TTFT_EDGES, 0.99),
        "attainment": share_within(ttft, TTFT_EDGES, target_s),
        "queued": sample.queued,
        "held": level.held,
        "in_flight": level.in_flight,
        "ready": level.ready,
        "kv": level.kv_usage if level.ready else None,
    }


def _per_s(count: float, span_s: float) -> float:
    return count / span_s if span_s else 0.0


def _share(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole > 0 else None


def _per_cost(output_per_s: float, cost_per_hour: float) -> float | None:
    return output_per_s * _SECONDS_PER_HOUR / cost_per_hour if cost_per_hour > 0 else None


def _short(value: float | None) -> float | None:
    """Six digits are more than a chart shows; times keep theirs."""
    if value is None or value >= 1e6:
        return value if value is None else round(value, 3)
    return float(f"{value:.6g}")
