"""Buckets of the time to the first token, and how many of its values kept a limit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

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


def num_values(amounts: Mapping[str, float]) -> float:
    """In what `counts_of` grew by, however long they took."""
    edges = _edges(amounts)
    return edges[-1][1] if edges else 0.0


def in_time(amounts: Mapping[str, float], limit_s: float) -> tuple[float, float]:
    """(values, those of them up to the limit) of what `counts_of` grew by.

    Where the limit is no edge, values are taken to be spread evenly in the bucket around it.
    """
    edges = _edges(amounts)
    below_edge, below = 0.0, 0.0
    for edge, amount in edges:
        if limit_s < edge:
            if edge == inf:  # how long the slowest took is not known: none of them was in time
                return edges[-1][1], below
            share = (limit_s - below_edge) / (edge - below_edge)
            return edges[-1][1], below + share * (amount - below)
        below_edge, below = edge, amount
    return (edges[-1][1], below) if edges else (0.0, 0.0)


def in_time_at_best(amounts: Mapping[str, float], limit_s: float) -> tuple[float, float]:
    """The same with all values of the bucket around the limit taken for in time.

    For edges that are far apart: with some at 1 and 2.5 s and a limit of 2 s, a worker whose first
    tokens all take 1.2 s would else seem to miss every third.
    """
    edges = _edges(amounts)
    finite = [(edge, amount) for edge, amount in edges if edge < inf]
    if not finite:
        return (edges[-1][1], 0.0) if edges else (0.0, 0.0)
    good = next((amount for edge, amount in finite if limit_s <= edge), finite[-1][1])
    return edges[-1][1], good


def _edges(amounts: Mapping[str, float]) -> list[tuple[float, float]]:
    return sorted(
        (float(name.removeprefix(_PREFIX)), amount)
        for name, amount in amounts.items()
        if name.startswith(_PREFIX)
    )
