"""The cheapest mix, against all mixes there are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.autoscaler.core import mix
from shoal.autoscaler.core.mix import Option, cheapest

H100 = Option(size=1.0, cost=10.0, gpus=1, most=8)
L40S = Option(size=0.3, cost=2.0, gpus=1, most=8)


@pytest.mark.parametrize(
    ("need", "gpus", "numbers"),
    [
        (0.0, None, [0, 0]),
        (1e-3, None, [0, 1]),
        (0.9, None, [0, 3]),
        (0.95, None, [0, 4]),
        (2.4, None, [0, 8]),
        (2.5, None, [1, 5]),
        (2.7, None, [1, 6]),
        # Four GPUs: of the cheaper there would have to be five.
        (1.4, 4, [1, 2]),
        (2.0, 2, [2, 0]),
        # Nothing is enough: what comes nearest.
        (3.0, 2, [2, 0]),
        (99.0, None, [8, 8]),
    ],
)
def test_two_kinds_of_gpu(need: float, gpus: int | None, numbers: list[int]) -> None:
    assert cheapest([H100, L40S], need, gpus=gpus) == numbers


@pytest.mark.parametrize(
    ("need", "number"), [(0.0, 0), (0.1, 1), (1.0, 1), (1.0 + 1e-7, 1), (1.01, 2), (99.0, 8)]
)
def test_of_one_variant_it_is_a_division(need: float, number: int) -> None:
    assert cheapest([H100], need) == [number]


def test_what_must_be_there_is_there_even_beyond_the_budget() -> None:
    options = [Option(size=1.0, cost=1.0, gpus=4, least=3, most=5)]
    assert cheapest(options, 5.0, gpus=8) == [3]


def test_what_costs_nothing_is_taken_with_the_fewest_gpus() -> None:
    large = Option(size=2.0, cost=0.0, gpus=8, most=9)
    small = Option(size=1.0, cost=0.0, gpus=2, most=9)
    assert cheapest([large, small], 4.0) == [0, 4]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Option], float, int | None]:
    options = []
    for _ in range(draw(st.integers(1, 3))):
        least = draw(st.integers(0, 2))
        options.append(
            Option(
                size=draw(st.sampled_from([1.0, 0.75, 0.5, 0.3, 0.1])),
                cost=draw(st.sampled_from([0.0, 0.5, 1.0, 1.1, 3.0, 4.0])),
                gpus=draw(st.integers(0, 4)),
                least=least,
                most=least + draw(st.integers(0, 4)),
            )
        )
    gpus = draw(st.none() | st.integers(0, 30))
    return options, draw(st.floats(0.0, 8.0)), gpus


@given(problems())
@settings(max_examples=100, deadline=None)
def test_no_mix_is_better(problem: tuple[list[Option], float, int | None]) -> None:
    options, need, gpus = problem
    taken = sum(o.least * o.gpus for o in options)

    def worth(numbers: tuple[int, ...]) -> tuple[float, float]:
        capacity = sum(n * o.size for n, o in zip(numbers, options, strict=True))
        cost = sum(n * o.cost for n, o in zip(numbers, options, strict=True))
        short = need - capacity
        return (round(short, 6) if short > 1e-6 else 0.0, round(cost, 6))

    def is_allowed(numbers: tuple[int, ...]) -> bool:
        used = sum(n * o.gpus for n, o in zip(numbers, options, strict=True))
        return gpus is None or used <= max(gpus, taken)

    every = product(*(range(o.least, o.most + 1) for o in options))
    best = min(worth(numbers) for numbers in every if is_allowed(numbers))
    found = tuple(cheapest(options, need, gpus=gpus))
    assert is_allowed(found)
    assert all(o.least <= n <= o.most for n, o in zip(found, options, strict=True))
    assert worth(found) == best


@given(problems(), st.floats(0.0, 2.0))
@settings(max_examples=100, deadline=None)
def test_more_is_never_cheaper(
    problem: tuple[list[Option], float, int | None], more: float
) -> None:
    options, need, _ = problem

    def cost(of: float) -> float:
        return sum(n * o.cost for n, o in zip(cheapest(options, of), options, strict=True))

    assert cost(need) <= cost(need + more) + 1e-6


def test_many_variants_of_nearly_one_price_are_searched_in_few_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound cuts off nearly all of 65^6 mixes: the limit of steps is far away."""
    sizes = (1.0, 0.93, 0.71, 0.52, 0.37, 0.11)
    options = [
        Option(size=s, cost=s * (4 + 0.01 * i), gpus=1, most=64) for i, s in enumerate(sizes)
    ]
    problems = [(need, gpus) for need in (3.3, 17.77, 61.1, 150.0) for gpus in (None, 100)]
    exact = [cheapest(options, need, gpus=gpus) for need, gpus in problems]
    monkeypatch.setattr(mix, "MAX_STEPS", 500)
    assert [cheapest(options, need, gpus=gpus) for need, gpus in problems] == exact


def test_variants_of_one_price_are_not_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of mixes cost the same; the first is within a replica of the cheapest."""
    options = [Option(size=1.0, cost=1.0, gpus=2**i, most=64) for i in range(6)]
    options.append(Option(size=0.59, cost=1.0, gpus=8, most=64))
    assert sum(cheapest(options, 88.4)) == 89
    monkeypatch.setattr(mix, "MAX_STEPS", 1)
    assert sum(cheapest(options, 88.4)) <= 90
