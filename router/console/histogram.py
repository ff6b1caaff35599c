"""What the counts of a histogram's buckets say: percentiles, and the share below a bound.

Both take observations as spread evenly over their bucket, as Prometheus' histogram_quantile does.
"""

from __future__ import annotations

from collections.abc import Sequence


def percentile(counts: Sequence[float], edges: Sequence[float], q: float) -> float | None:
    """The value below which a share of `q` lies; None without an observation.

    `counts` are not cumulative, and one more than `edges`: what lies above the last edge is taken
    to be there.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below, lower = q * total, 0.0, 0.0
    for count, edge in zip(counts, edges, strict=False):
        if count and below + count >= wanted:
            return lower + (edge - lower) * max(0.0, wanted - below) / count
        below += count
        lower = edge
    return edges[-1]


def share_within(counts: Sequence[float], edges: Sequence[float], bound: float) -> float | None:
    """The share at or below `bound`, in [0, 1]; None without an observation."""
    total = sum(counts)
    if total <= 0:
        return None
    within, lower = 0.0, 0.0
    for count, edge in zip(counts, edges, strict=False):
        if bound >= edge:
            within += count
        else:
            within += count * max(0.0, bound - lower) / (edge - lower)
            break
        lower = edge
    return within / total
