from __future__ import annotations

from shoal.router.core.calmest import MIN_KEPT, NUM_KEPT, Calmest


def test_a_few_samples_are_no_knowledge() -> None:
    calmest = Calmest()
    for i in range(MIN_KEPT):
        assert not calmest.is_known
        calmest.add(1, 0.1 * i)
    assert calmest.is_known


def test_a_crowd_does_not_touch_it() -> None:
    calmest = Calmest()
    for _ in range(NUM_KEPT):
        calmest.add(3, 0.1)
    for _ in range(1000):
        calmest.add(4, 9.0)
    assert calmest.expected_s == 0.1


def test_calm_samples_take_the_place_of_the_least_calm() -> None:
    calmest = Calmest()
    for i in range(NUM_KEPT):
        calmest.add(10 + i, 9.0)
    for _ in range(NUM_KEPT):
        calmest.add(10, 0.1)
    assert calmest.expected_s == 0.1


def test_new_samples_take_the_place_of_old_ones_as_calm() -> None:
    calmest = Calmest()
    for seconds in (1.0, 2.0):
        for _ in range(NUM_KEPT):
            calmest.add(3, seconds)
    assert calmest.expected_s == 2.0


def test_prompts_that_were_cached_against_expectation_are_not_the_rule() -> None:
    calmest = Calmest()
    for i in range(NUM_KEPT):
        calmest.add(1, 0.001 if i % 5 < 2 else 0.5)
    assert calmest.expected_s == 0.5
