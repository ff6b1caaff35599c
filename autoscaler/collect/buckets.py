"""Buckets of a histogram of the time to the first token, and how many of its values kept a limit.

Pure. Where the limit is no edge, values are taken to be spread evenly in the bucket around it: with
edges at 1.0 and 2.5 s and a limit of 2 s, two thirds of that bucket count as in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, isfinite

from shoal.metrics import Sample

_PREFIX = "ttft<="


def counts_of(samples: Iterable[Sample]) -> dict[str, float]:
    """Cumulative counts by edge, as counters of a source: those of all label sets together."""
    counts: dict[str, float] = {}
    for sample in samples:
        try:
            edge = float(sample.labels["le"])
        except (KeyError, ValueError):
            continue
        name = f"{_PREFIX}{edge!r}"
        counts[name] = counts.get(name, 0.0) + sample.value
    return counts


def in_time(amounts: Mapping[str, float], limit_s: float) -> tuple[float, float]:
    """(values, those of them up to the limit) of what `counts_of` grew by."""
    edges = sorted(
        (float(name.removeprefix(_PREFIX)), amount)
        for name, amount in amounts.items()
        if name.startswith(_PREFIX)
    )
    if not edges:
        return 0.0, 0.0
    total = edges[-1][1]
    below_edge, below = 0.0, 0.0
    for edge, amount in edges:
        if limit_s <= edge:
            if edge == inf or limit_s == edge:
                # How long the slowest took is not known: none of them was in time.
                return total, amount if isfinite(edge) else below
            share = (limit_s - below_edge) / (edge - below_edge)
            return total, below + share * (amount - below)
        below_edge, below = edge, amount
    return total, below
