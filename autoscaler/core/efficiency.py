"""What a variant is worth beside the others of its pool, beyond what its mean costs tell.

The cost of a token says how many requests a replica carries at the objective on average. The
objective asks for nearly all of them, and that a slow replica reaches at a lower load than a fast
one: a long prompt alone may take all its time to the first token. So each variant's capacity is
corrected by how its own requests fared. It moves by what was missed beyond what the objective
forgives (Robbins and Monro, 1951, as in `headroom.py`); what all variants miss alike is left to
the headroom.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from .headroom import times_missed

SPENT = 0.9
"""Of what the objective forgives: a variant that misses less counts in full again."""
PER_MINUTE = 0.02
"""Relative move in a minute, for each time over that as many are missed as may be."""
LEAST = 0.3


@dataclass(slots=True)
class Efficiency:
    """Of one variant: 1 is as good as its costs promise."""

    value: float = 1.0

    def observe(
        self, attainment: float, *, interval_s: float, num_requests: int, num_in_time: int
    ) -> None:
        """Requests that were judged in an interval without a shortage."""
        if num_requests <= 0:
            return
        missed = times_missed(num_requests, num_in_time, attainment=attainment)
        move = PER_MINUTE * interval_s / 60 * (SPENT - missed)
        self.value = min(max(self.value * exp(move), LEAST), 1.0)
