"""Work that fades."""

from __future__ import annotations

import pytest

from shoal.router.core.recent_work import LARGEST_SCALE, RecentWork


def of(work: RecentWork, name: str, now: float) -> float:
    scale = work.scale(now)
    return work.by_endpoint.get(name, 0.0) / scale


def test_half_is_left_after_a_half_life() -> None:
    work = RecentWork(half_life_s=10.0)
    work.add("a", 8.0, 100.0)
    assert of(work, "a", 100.0) == pytest.approx(8.0)
    assert of(work, "a", 110.0) == pytest.approx(4.0)
    work.add("a", 1.0, 110.0)
    assert of(work, "a", 120.0) == pytest.approx(2.5)


def test_numbers_stay_small_and_those_who_left_are_forgotten() -> None:
    work = RecentWork(half_life_s=1.0)
    work.add("gone", 1.0, 0.0)
    for second in range(1, 1000):
        work.add("a", 1.0, float(second))
        assert work.by_endpoint["a"] < 4 * LARGEST_SCALE
    assert of(work, "a", 999.0) == pytest.approx(2.0)
    assert "gone" not in work.by_endpoint


def test_a_very_long_silence() -> None:
    work = RecentWork(half_life_s=1.0)
    work.add("a", 1.0, 0.0)
    assert of(work, "a", 1e9) == 0.0
    work.add("a", 3.0, 1e9)
    assert of(work, "a", 1e9) == pytest.approx(3.0)


def test_the_typical_request_is_an_average() -> None:
    work = RecentWork()
    assert work.typical == 0.0
    work.add("a", 5.0, 0.0)
    assert work.typical == 5.0
    for _ in range(500):
        work.add("a", 10.0, 1.0)
    assert work.typical == pytest.approx(10.0, rel=0.01)
