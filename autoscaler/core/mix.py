"""The cheapest numbers of replicas of several variants that together carry a load.

A bounded integer knapsack with few variants: depth first, best price first, cut off by the bound
of its fractional relaxation (Kolesar, "A branch and bound algorithm for the knapsack problem",
Management Science 13, 1967). With one variant it is a division. Exact, but where many variants cost
about the same for what they can: there the search ends after `MAX_STEPS`, and what it has found by
then is dearer than the cheapest by a replica at the most (as long as no budget binds): its first
find is what the fractions say, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .headroom import whole

TINY = 1e-6
"""Capacity that is not missed: the same grain of salt as in `whole`."""
NO_BUDGET = 1 << 60
MAX_STEPS = 10_000
"""Some 20 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Replicas of one variant that there may be."""

    size: float
    """Capacity of one; positive."""
    cost: float
    """Of one, in any unit."""
    gpus: int = 0
    """Of one."""
    least: int = 0
    most: int
    """At least `least`."""


def cheapest(options: Sequence[Option], need: float, *, gpus: int | None = None) -> list[int]:
    """Numbers of least cost whose capacities add up to the need, within `gpus` in all.

    Where there are none, those that come nearest to the need, and of these the cheapest. `least` is
    there in any case, even beyond `gpus`. Of equal cost, the fewest GPUs and replicas.
    """
    return _Search(options, need, gpus).numbers()


class _Search:
    def __init__(self, options: Sequence[Option], need: float, gpus: int | None) -> None:
        self._options = options
        self._need = need - sum(o.least * o.size for o in options)
        taken = sum(o.least * o.gpus for o in options)
        self._gpus = NO_BUDGET if gpus is None else max(gpus - taken, 0)
        # A billionth of the cost tells apart what costs the same.
        tie = 1e-9 * max((o.cost for o in options), default=0.0) or 1.0
        self._price = [o.cost + tie * (o.gpus + 1) for o in options]
        self._order = sorted(range(len(options)), key=lambda i: self._price[i] / options[i].size)
        """Best price of capacity first: the order in which numbers are chosen."""
        self._rank = {index: rank for rank, index in enumerate(self._order)}
        self._has_budget = gpus is not None
        self._by_gpu = sorted(self._order, key=lambda i: options[i].gpus / options[i].size)
        """Most capacity for a GPU first."""
        self._extra = [0] * len(options)
        """Beyond `least`, as chosen so far."""
        self._steps = 0
        self._best = (float("inf"), float("inf"))
        """(shortage, cost) of the best numbers so far."""
        self._best_extra: list[int] = list(self._extra)

    def numbers(self) -> list[int]:
        self._choose(0, self._need, 0.0, self._gpus)
        return [o.least + n for o, n in zip(self._options, self._best_extra, strict=True)]

    def _choose(self, rank: int, need: float, cost: float, gpus: int) -> None:
        """Numbers for the options from `rank` on; `need` and `gpus` are what is left of them."""
        if rank == len(self._order) or need <= TINY:
            found = (_shortage(need), cost)
            if found < self._best:
                self._best, self._best_extra = found, list(self._extra)
            return
        index = self._order[rank]
        option = self._options[index]
        most = min(option.most - option.least, whole(need / option.size))
        if option.gpus:
            most = min(most, gpus // option.gpus)
        for number in range(most, -1, -1):
            self._steps += 1
            if self._steps > MAX_STEPS and self._best[1] < float("inf"):
                break
            then = need - number * option.size
            spent, spare = cost + number * self._price[index], gpus - number * option.gpus
            if self._bound(rank + 1, then, spent, spare) < self._best:
                self._extra[index] = number
                self._choose(rank + 1, then, spent, spare)
        self._extra[index] = 0

    def _bound(self, rank: int, need: float, cost: float, gpus: int) -> tuple[float, float]:
        """No numbers for the options from `rank` on have less (shortage, cost) than this.

        In fractions of replicas: at the best price, as if there were no budget; and as much
        capacity as the GPUs can give, as if it cost nothing.
        """
        short = need - self._most_capacity(rank, gpus) if self._has_budget else 0.0
        for index in self._order[rank:]:
            if need <= TINY:
                break
            option = self._options[index]
            number = min(option.most - option.least, need / option.size)
            need -= number * option.size
            cost += number * self._price[index]
        return _shortage(max(need, short)), cost

    def _most_capacity(self, rank: int, gpus: float) -> float:
        capacity = 0.0
        for index in self._by_gpu:
            if self._rank[index] < rank:
                continue
            option = self._options[index]
            number: float = option.most - option.least
            if option.gpus:
                number = min(number, gpus / option.gpus)
                gpus -= number * option.gpus
            capacity += number * option.size
        return capacity


def _shortage(need: float) -> float:
    return round(need, 6) if need > TINY else 0.0
