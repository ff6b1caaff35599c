"""Pickers draw fairly."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from shoal.router.core.pickers import Best, BestOfTwo, Lots


def test_the_best_wins_and_ties_are_drawn() -> None:
    assert Best().pick([0.1, 0.5, 0.4], Random(1)) == 1
    rng = Random(1)
    counts = Counter(Best().pick([0.5, 0.1, 0.5, 0.5], rng) for _ in range(600))
    assert counts[1] == 0
    assert min(counts[0], counts[2], counts[3]) > 150


def test_what_is_within_the_tolerance_ties() -> None:
    picker, rng = Best(tolerance=0.1), Random(1)
    counts = Counter(picker.pick([-1.0, -1.05, -1.2], rng) for _ in range(200))
    assert counts[2] == 0
    assert min(counts[0], counts[1]) > 60
    with pytest.raises(ValueError, match="0 or more"):
        Best(tolerance=-0.1)


def test_two_are_never_the_same_one() -> None:
    rng = Random(1)
    counts = Counter(BestOfTwo().pick([3.0, 2.0, 1.0], rng) for _ in range(3000))
    assert counts[2] == 0  # loses to either
    assert counts[0] == pytest.approx(2000, rel=0.1)


def test_lots_are_drawn_by_their_number() -> None:
    rng = Random(1)
    counts = Counter(Lots().pick([0.5, 0.0, 0.25, 0.25], rng) for _ in range(4000))
    assert counts[1] == 0
    assert counts[0] == pytest.approx(2000, rel=0.1)

    class AlmostOne:
        def random(self) -> float:
            return 1.0  # rounding may leave a crumb after the last

    assert Lots().pick([0.5, 0.5], AlmostOne()) == 1
