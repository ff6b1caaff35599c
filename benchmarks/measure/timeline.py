"""The run as columns over time: what the plots of a report show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shoal.benchmarks.result import Timeline

from .record import RequestRecord

Floats = NDArray[np.float64]
MAX_BUCKETS, FEW_BUCKETS = 80, 24
BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


def bucket_width(duration_s: float, num_requests: int) -> float:
    """The smallest round width that keeps a plot at 80 points or fewer, and at 24 or fewer where
    there are not two requests for each: most of its points would be gaps."""
    max_buckets = min(MAX_BUCKETS, max(FEW_BUCKETS, num_requests // 2))
    for width in BUCKETS_S:
        if duration_s / width <= max_buckets:
            return float(width)
    return duration_s / max_buckets


def timeline(records: Sequence[RequestRecord], duration_s: float) -> Timeline:
    """Bucket the records of one run of `duration_s`."""
    width = bucket_width(duration_s, len(records))
    count = max(1, math.ceil(duration_s / width))
    edges: Floats = np.arange(count + 1, dtype=np.float64) * width

    intended = np.array([record.intended_s for record in records])
    ttft = np.array([math.nan if (t := r.ttft_s) is None else t for r in records])
    answered = ~np.isnan(ttft)
    failed = np.array([record.error is not None for record in records], dtype=bool)
    gap_ends, gaps = _gaps(records)
    tokens = _tokens_per_bucket(records, gap_ends, edges)
    return Timeline(
        bucket_s=width,
        t_s=edges[:-1].tolist(),
        ttft_p50_s=_quantile_per_bucket(intended[answered], ttft[answered], edges, 0.5),
        ttft_p99_s=_quantile_per_bucket(intended[answered], ttft[answered], edges, 0.99),
        itl_p50_s=_quantile_per_bucket(gap_ends, gaps, edges, 0.5),
        output_tokens_per_s=(tokens / width).tolist(),
        requests_per_s=(_histogram(intended, edges) / width).tolist(),
        errors=_histogram(intended[failed], edges).astype(int).tolist(),
        in_flight=_in_flight(records, edges, duration_s).tolist(),
    )


def _histogram(times: Floats, edges: Floats) -> Floats:
    if times.size == 0:
        return np.zeros(len(edges) - 1)
    clipped = np.clip(times, edges[0], edges[-1])  # the last moment belongs to the last bucket
    return np.histogram(clipped, edges)[0].astype(float)


def _quantile_per_bucket(
    times: Floats,
    values: Floats,
    edges: Floats,
    quantile: float,
) -> list[float | None]:
    columns: list[float | None] = [None] * (len(edges) - 1)
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    bounds = np.searchsorted(times, edges)
    bounds[-1] = len(times)
    for bucket, (low, high) in enumerate(pairwise(bounds)):
        if high > low:
            columns[bucket] = float(np.quantile(values[low:high], quantile))
    return columns


def _gaps(records: Sequence[RequestRecord]) -> tuple[Floats, Floats]:
    """Every inter-token gap with the time it ended."""
    ends, gaps = [np.empty(0)], [np.empty(0)]
    for record in records:
        if record.first_s is not None and record.gaps:
            own = record.itl_s.astype(np.float64)
            ends.append(record.first_s + np.cumsum(own))
            gaps.append(own)
    return np.concatenate(ends), np.concatenate(gaps)


def _tokens_per_bucket(records: Sequence[RequestRecord], gap_ends: Floats, edges: Floats) -> Floats:
    """Output tokens by arrival: a chunk each, scaled where chunks hold more than one token."""
    firsts = np.array([record.first_s for record in records if record.first_s is not None])
    chunks: Floats = _histogram(firsts, edges) + _histogram(gap_ends, edges)
    num_chunks = chunks.sum()
    num_tokens = sum(record.num_output_tokens for record in records if record.first_s is not None)
    if num_chunks:
        chunks *= num_tokens / num_chunks
    return chunks


def _in_flight(records: Sequence[RequestRecord], edges: Floats, duration_s: float) -> Floats:
    """Mean number of open requests per bucket: the time they spend in it over its width."""
    sent = np.array([r.sent_s for r in records if r.sent_s is not None])
    ends = np.array([duration_s if r.end_s is None else r.end_s
                     for r in records if r.sent_s is not None])  # fmt: skip

    def seconds_before(times: Floats) -> Floats:
        """Sum over requests of the time between their event and each edge, where it is past."""
        ordered = np.sort(times)
        past = np.searchsorted(ordered, edges)
        totals = np.concatenate([[0.0], np.cumsum(ordered)])
        seconds: Floats = past * edges - totals[past]
        return seconds

    open_seconds = seconds_before(sent) - seconds_before(ends)
    means: Floats = np.diff(open_seconds) / np.diff(edges)
    return means
