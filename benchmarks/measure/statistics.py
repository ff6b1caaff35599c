"""Percentiles with their counts, and how far repeats let one trust them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal.benchmarks.result import Distribution, Interval, Ratio

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % point of Student's t at 1 to 30 degrees of freedom; 1.96 beyond, at most 4 % off."""


def distribution(samples: Sequence[float] | NDArray[np.float64]) -> Distribution:
    """Summary and 101 quantiles, interpolated linearly between neighbours (numpy's default)."""
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0:
        return Distribution(count=0)
    quantiles = np.quantile(values, np.linspace(0, 1, 101))
    return Distribution(
        count=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(quantiles[0]),
        p50=float(quantiles[50]),
        p90=float(quantiles[90]),
        p95=float(quantiles[95]),
        p99=float(quantiles[99]),
        max=float(quantiles[100]),
        quantiles=quantiles.tolist(),
    )


def interval(values: Sequence[float]) -> Interval:
    """Mean of repeats and its 95 % interval. Raises ValueError when there are none."""
    if not values:
        raise ValueError("an interval needs at least one value")
    mean = math.fsum(values) / len(values)
    half = _half_width(values, mean)
    if half is None:
        return Interval(mean=mean, low=None, high=None, count=1)
    return Interval(mean=mean, low=mean - half, high=mean + half, count=len(values))


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    """A over B for runs made side by side; None when no pair has two positive values.

    The interval is taken on logarithms, where twice as fast and half as fast lie equally far from
    even; neighbouring runs share the machine's mood, which cancels in their ratio.
    """
    ratios = [a / b for a, b in pairs if a > 0 and b > 0]
    if not ratios:
        return None
    logs = [math.log(value) for value in ratios]
    mean = math.fsum(logs) / len(logs)
    half = _half_width(logs, mean)
    return Ratio(
        median=float(np.median(ratios)),
        low=None if half is None else math.exp(mean - half),
        high=None if half is None else math.exp(mean + half),
        geometric_mean=math.exp(mean),
        pairs=ratios,
    )


def _half_width(values: Sequence[float], mean: float) -> float | None:
    count = len(values)
    if count < 2:
        return None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    t = T_975[count - 2] if count - 2 < len(T_975) else 1.96
    return t * math.sqrt(variance / count)
