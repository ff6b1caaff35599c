"""Pools that need each other: prefill without decode serves nobody, nor the other way round.

Each has numbers of its own for one and the same rate of requests, which keeps their ratio as it was
learnt. Where one cannot have what it needs, the others grow to the same share of theirs only.
"""

from __future__ import annotations

from collections.abc import Sequence

from .choice import grow
from .expectation import Expectation
from .pools import Pool

STEPS = 20
"""Of the bisection of a share: to a millionth."""


def useful_shares(
    pools: Sequence[Pool], expected: Sequence[Expectation], *, gpus: int | None
) -> list[float]:
    """Of each pool's need, what is of use; 1 where nothing stands in the way.

    Where a pool cannot have all it needs, it may have what it can, and the others as large a share.
    Where the budget is too small for all, all have the largest share that it is enough for.
    """
    if len(pools) == 1:
        return [1.0]
    reach = [_reach(pool, e.up_to) for pool, e in zip(pools, expected, strict=True)]
    least = min(reach)
    shares = [1.0 if own <= least else least for own in reach]
    if gpus is None or _gpus(pools, expected, shares) <= gpus:
        return shares
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        fits = _gpus(pools, expected, [middle * s for s in shares]) <= gpus
        low, high = (middle, high) if fits else (low, middle)
    return [low * share for share in shares]


def _reach(pool: Pool, need: float) -> float:
    """Share of the need that the pool can have, budget aside."""
    return min(pool.capacity(grow(pool, need, gpus=None)) / need, 1.0) if need > 0 else 1.0


def _gpus(pools: Sequence[Pool], expected: Sequence[Expectation], shares: Sequence[float]) -> int:
    """What all pools together would use."""
    return sum(
        pool.gpus(grow(pool, e.up_to * share, gpus=None))
        for pool, e, share in zip(pools, expected, shares, strict=True)
    )
