"""Numbers for a pool, as tables: what there is and what is needed, and what is asked for.

H100 and L40S are a replica each that takes 1 and 0.3 of the load, for 10 and 2 an hour: the second
has the better price, the first the better place.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.autoscaler.core.choice import PAYS_WITHIN_S, Choice, choose
from shoal.autoscaler.core.expectation import Expectation
from shoal.autoscaler.core.pools import Pool
from shoal.autoscaler.core.spec import Pace, ScalingSpec
from shoal.autoscaler.core.state import LASTING_S, PoolState
from tests.autoscaler.core.pool_builder import Kind, expecting, make_pool

H100 = Kind(name="h100", cost=10.0)
L40S = Kind(name="l40s", cost=2.0, size=0.3)


def at_once(
    pool: Pool, expected: Expectation, *, gpus: int | None = None, now: float = 0.0
) -> Choice:
    """The first decision of a scaler: nothing has lasted."""
    return choose(pool, expected, PoolState.of(ScalingSpec()), Pace(), now, gpus=gpus)


def settled(pool: Pool, expected: Expectation, *, gpus: int | None = None) -> Choice:
    """A decision after the same was expected for long."""
    state, choice = PoolState.of(ScalingSpec()), None
    for step in range(int(LASTING_S / 5) + 1):
        choice = choose(pool, expected, state, Pace(), step * 5.0, gpus=gpus)
    assert choice is not None
    return choice


@pytest.mark.parametrize(
    ("ready", "pending", "up_to", "down_to", "number"),
    [
        # Up at once, to the whole replica that covers it.
        (1, 0, 0.9, None, 1),
        (1, 0, 1.1, None, 2),
        (1, 0, 4.0, 4.0, 4),
        # What is coming is not asked for again.
        (1, 3, 3.9, 3.9, 4),
        (1, 3, 4.1, 4.1, 5),
        # Down only to what was needed within the delay, and not at all before it is known.
        (5, 0, 1.1, None, 5),
        (5, 0, 1.1, 4.2, 5),
        (5, 0, 1.1, 3.9, 4),
        (5, 0, 1.1, 1.2, 2),
        # Coming replicas go like those that are ready.
        (2, 3, 1.1, 2.0, 2),
        # In use: one at the least.
        (2, 0, -0.1, 0.0, 1),
        (0, 0, -0.1, 0.0, 1),
        # Beyond what there may be.
        (9, 0, 14.0, 14.0, 10),
        (12, 0, 1.0, None, 10),
    ],
)
def test_one_variant(
    ready: int, pending: int, up_to: float, down_to: float | None, number: int
) -> None:
    pool = make_pool(replace(H100, ready=ready, pending=pending))
    assert at_once(pool, expecting(up_to, down_to)).numbers == (number,)


@pytest.mark.parametrize(
    ("h100", "l40s", "up_to", "numbers"),
    [
        # From zero: the cheapest that is enough.
        ((0, 0), (0, 0), 0.01, (0, 1)),
        ((0, 0), (0, 0), 0.9, (0, 3)),
        ((0, 0), (0, 0), 3.5, (1, 9)),
        # On top of what there is, of which nothing goes.
        ((2, 0), (0, 0), 2.5, (2, 2)),
        ((2, 0), (1, 1), 2.5, (2, 2)),
        ((2, 0), (1, 1), 2.7, (2, 3)),
        # No more of the cheap one: the other.
        ((0, 0), (10, 0), 3.1, (1, 10)),
        ((0, 0), (10, 0), 9.0, (6, 10)),
        # More than all there may be.
        ((0, 0), (0, 0), 99.0, (10, 10)),
    ],
)
def test_additions_are_the_cheapest(
    h100: tuple[int, int], l40s: tuple[int, int], up_to: float, numbers: tuple[int, int]
) -> None:
    pool = make_pool(
        replace(H100, ready=h100[0], pending=h100[1]),
        replace(L40S, ready=l40s[0], pending=l40s[1]),
    )
    choice = at_once(pool, expecting(up_to))
    assert choice.numbers == numbers
    assert choice.is_short == (up_to > 13)


@pytest.mark.parametrize(
    ("down_to", "numbers"),
    [(3.0, (2, 4)), (2.6, (2, 2)), (1.2, (0, 4)), (1.3, (1, 1)), (0.8, (0, 3)), (0.0, (0, 1))],
)
def test_what_goes_is_the_dearest(down_to: float, numbers: tuple[int, int]) -> None:
    pool = make_pool(replace(H100, ready=2), replace(L40S, ready=4))
    assert at_once(pool, expecting(0.0, down_to)).numbers == numbers


def test_nothing_that_is_ready_goes_for_something_that_is_not() -> None:
    pool = make_pool(replace(H100, ready=2), replace(L40S, ready=1, pending=6))
    assert at_once(pool, expecting(1.8, 1.9)).numbers == (2, 7)
    pool = make_pool(replace(H100, ready=2), replace(L40S, ready=4, pending=3))
    assert at_once(pool, expecting(1.8, 1.9)).numbers == (1, 7)
    pool = make_pool(replace(H100, ready=2), replace(L40S, ready=7))
    assert at_once(pool, expecting(1.8, 1.9)).numbers == (0, 7)


def test_a_cheaper_mix_is_moved_to_when_it_would_have_been_enough_for_long() -> None:
    pool = make_pool(replace(H100, ready=2), L40S)
    wanted = expecting(1.8, 1.8)  # 20 an hour, or 12 with six of the others
    assert at_once(pool, wanted).numbers == (2, 0)
    choice = settled(pool, wanted)
    assert choice.numbers == (2, 6)
    assert choice.saves == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("cost", "numbers"),
    [
        # Six in place of two at 20: less than 5 % saved, or as much as their starts cost.
        (3.2, (2, 0)),
        (3.1, (2, 6)),
    ],
)
def test_small_gains_move_nothing(cost: float, numbers: tuple[int, int]) -> None:
    assert Pace().scale_down_delay_s + 60.0 == PAYS_WITHIN_S / 15
    pool = make_pool(replace(H100, ready=2), replace(L40S, cost=cost))
    assert settled(pool, expecting(1.8, 1.8)).numbers == numbers


def test_peaks_of_late_count_for_a_move() -> None:
    """Enough now is not enough: what replaces must have been enough for ten minutes."""
    pool = make_pool(replace(H100, ready=2), replace(L40S, most=6))
    state, pace = PoolState.of(ScalingSpec()), Pace()
    now = 0.0
    for up_to in [1.95, *[1.5] * 119]:
        assert choose(pool, expecting(up_to, up_to), state, pace, now, gpus=None).numbers == (2, 0)
        now += 5.0
    for _ in range(3):
        choice = choose(pool, expecting(1.5, 1.5), state, pace, now, gpus=None)
        now += 5.0
    assert choice.numbers == (2, 5)


def test_a_variant_that_never_ran_is_tried_with_one_replica() -> None:
    pool = make_pool(replace(H100, ready=3), replace(L40S, is_learnt=False))
    assert settled(pool, expecting(2.2, 2.2)).numbers == (3, 1)


def test_a_move_needs_room_for_both() -> None:
    pool = make_pool(replace(H100, ready=2), L40S)
    assert settled(pool, expecting(1.8, 1.8), gpus=7).numbers == (2, 0)
    assert settled(pool, expecting(1.8, 1.8), gpus=8).numbers == (2, 6)


def test_a_move_that_is_under_way_stays_the_same_move() -> None:
    """Each row: what is ready and coming, and what is asked for then."""
    state, pace, now = PoolState.of(ScalingSpec()), Pace(), 0.0

    def decide(h100: int, l40s: int, pending: int) -> tuple[int, ...]:
        nonlocal now
        now += 5.0
        pool = make_pool(replace(H100, ready=h100), replace(L40S, ready=l40s, pending=pending))
        return choose(pool, expecting(1.8, 1.8), state, pace, now, gpus=None).numbers

    while (asked := decide(2, 0, 0)) == (2, 0):
        assert now <= LASTING_S + 5
    assert asked == (2, 6)
    assert [decide(2, 0, 6), decide(2, 2, 4)] == [(2, 6)] * 2
    assert [decide(2, 3, 3), decide(1, 3, 3), decide(1, 5, 1)] == [(1, 6)] * 3
    assert [decide(1, 6, 0), decide(0, 6, 0), decide(0, 6, 0)] == [(0, 6)] * 3


@pytest.mark.parametrize(
    ("gpus", "numbers", "is_short"),
    [(None, (1, 9), False), (10, (1, 9), False), (8, (2, 5), False), (3, (3, 0), True)],
)
def test_within_a_budget(gpus: int | None, numbers: tuple[int, int], is_short: bool) -> None:
    choice = at_once(make_pool(H100, L40S), expecting(3.5), gpus=gpus)
    assert choice.numbers == numbers
    assert choice.is_short is is_short


# -- replicas without a place --------------------------------------------------------------


def test_what_has_no_place_is_replaced_and_one_stays_asked_for() -> None:
    spot = replace(L40S, ready=2, pending=3, lacking=3)
    assert at_once(make_pool(H100, spot), expecting(1.5, 1.5)).numbers == (1, 3)


def test_with_the_replacement_there_it_stays_so() -> None:
    spot = replace(L40S, ready=2, pending=1, lacking=1)
    pool = make_pool(replace(H100, ready=1), spot)
    for choose_at in (at_once, settled):
        assert choose_at(pool, expecting(1.5, 1.5)).numbers == (1, 3)


def test_more_is_not_asked_of_what_is_full() -> None:
    """No place was found a while ago, and nothing of it is asked for at present."""
    full = replace(L40S, ready=2, room=0)
    assert at_once(make_pool(H100, full), expecting(1.5, 1.5)).numbers == (1, 2)


def test_where_nothing_can_replace_it_all_stays_asked_for() -> None:
    spot = replace(L40S, ready=2, pending=3, lacking=3)
    assert at_once(make_pool(spot), expecting(1.5, 1.5)).numbers == (5,)
    assert at_once(make_pool(spot), expecting(1.7, 1.7)).numbers == (6,)
    assert at_once(make_pool(spot), expecting(0.5, 1.2)).numbers == (4,)
    assert at_once(make_pool(spot), expecting(0.5, None)).numbers == (5,)
    assert at_once(make_pool(spot), expecting(0.5, 0.5)).numbers == (2,)
    one = replace(H100, most=1)
    assert at_once(make_pool(one, spot), expecting(2.5, 2.5)).numbers == (1, 5)


def test_a_place_that_is_asked_for_takes_no_gpu_from_what_replaces_it() -> None:
    spot = replace(L40S, ready=2, pending=3, lacking=3)
    assert at_once(make_pool(H100, spot), expecting(1.5, 1.5), gpus=3).numbers == (1, 2)


# -- others ----------------------------------------------------------------------------------


def test_a_variant_that_cannot_be_seen_counts_and_stays() -> None:
    unseen = replace(L40S, ready=4, is_known=False)
    assert at_once(make_pool(H100, unseen), expecting(1.5, 1.5)).numbers == (1, 4)
    assert at_once(make_pool(replace(H100, ready=2), unseen), expecting(1.0, 1.0)).numbers == (0, 4)


def test_after_an_edit_nothing_goes_for_a_while() -> None:
    edited = replace(H100, ready=5, kept_until=60.0)
    assert at_once(make_pool(edited), expecting(1.0, 1.0), now=59.0).numbers == (5,)
    assert at_once(make_pool(edited), expecting(1.0, 1.0), now=60.0).numbers == (1,)


def test_minima_are_kept_and_made_up_for() -> None:
    pool = make_pool(replace(H100, least=1), L40S)
    assert at_once(pool, expecting(1.2)).numbers == (1, 1)
    pool = make_pool(replace(H100, least=1, ready=3), replace(L40S, least=2, ready=2))
    assert at_once(pool, expecting(0.1, 0.1)).numbers == (1, 2)
