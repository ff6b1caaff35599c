"""Pools that need each other: prefill without decode serves nobody, nor the other way round.

Each has numbers of its own for one and the same rate of requests, which keeps their ratio as it was
learnt. Where one cannot have what it needs, the others grow to the same share of theirs only. Where
a budget is too small for all, and one has more of it than its share, that one gives GPUs up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .choice import ALL, LEAST_NEED, Part, grow
from .expectation import Expectation
from .mix import cheapest
from .pools import Pool

STEPS = 20
"""Of the bisection of a share: to a millionth."""
UNFAIR = 0.1
"""Of the need: a smaller difference in shares moves no GPUs."""


def parts_of(
    pools: Sequence[Pool], expected: Sequence[Expectation], *, gpus: int | None
) -> list[Part]:
    """Where a pool cannot have all it needs, it may have what it can, and the others as large a
    share; where the budget is too small for all, all have the largest share it is enough for."""
    if len(pools) == 1:
        return [ALL]
    wanted = [max(e.up_to, LEAST_NEED) for e in expected]
    reach = [_reach(pool, need) for pool, need in zip(pools, wanted, strict=True)]
    least = min(reach)
    shares = [1.0 if own <= least else least for own in reach]
    useful = [need * share for need, share in zip(wanted, shares, strict=True)]
    if gpus is None or _gpus(pools, useful, _more) <= gpus:
        return [Part(share) for share in shares]
    # What waits, waits before both: the ratio is that of the needs without it.
    needs = [max(e.need, LEAST_NEED) for e in expected]
    left = _largest(pools, needs, useful, gpus, _more)
    fair = _largest(pools, needs, useful, gpus, _anew)
    parts = []
    for pool, need, most, all_of_it in zip(pools, needs, useful, wanted, strict=True):
        has = pool.capacity([m.counted for m in pool.members])
        is_unfair = has > need * (fair + UNFAIR) and fair > left + UNFAIR
        share = min(left * need, most) / all_of_it
        parts.append(Part(share, need * fair if is_unfair else None))
    return parts


def _more(pool: Pool, need: float) -> list[int]:
    """On top of what there is."""
    return grow(pool, need, gpus=None)


def _anew(pool: Pool, need: float) -> list[int]:
    """As if nothing were there yet."""
    return cheapest([m.option(m.spec.min_replicas, m.most) for m in pool.members], need)


def _reach(pool: Pool, need: float) -> float:
    """Share of the need that the pool can have, budget aside."""
    return min(pool.capacity(_more(pool, need)) / need, 1.0) if need > 0 else 1.0


def _largest(
    pools: Sequence[Pool], needs: Sequence[float], at_most: Sequence[float], gpus: int,
    numbers: Callable[[Pool, float], list[int]],
) -> float:  # fmt: skip
    """The largest share of all needs that the GPUs are enough for."""
    low, high = 0.0, max(most / need for most, need in zip(at_most, needs, strict=True))
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = [min(middle * need, most) for need, most in zip(needs, at_most, strict=True)]
        low, high = (middle, high) if _gpus(pools, tried, numbers) <= gpus else (low, middle)
    return low


def _gpus(
    pools: Sequence[Pool], needs: Sequence[float], numbers: Callable[[Pool, float], list[int]]
) -> int:
    """What all pools together would use."""
    return sum(pool.gpus(numbers(pool, need)) for pool, need in zip(pools, needs, strict=True))
