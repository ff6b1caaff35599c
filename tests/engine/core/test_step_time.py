from __future__ import annotations

import random
from math import exp, inf, nan

import pytest

from shoal.engine.core.step_time import StepShape, StepTimeModel, count_pairs


def seconds_of(shape: StepShape) -> float:
    return (
        0.005
        + 0.0015 * shape.num_decodes
        + 1e-6 * shape.decode_context
        + 0.001 * shape.prefill_tokens
        + 0.25e-6 * shape.prefill_pairs
    )


def make_shape(num_decodes: int = 0, num_tokens: int = 0, *, start: int = 0) -> StepShape:
    pairs = count_pairs(num_tokens, start=start)
    return StepShape(num_decodes, 300 * num_decodes, num_tokens, pairs)


def trained_model(*, noise: float = 0.0) -> StepTimeModel:
    model, rng = StepTimeModel(), random.Random(0)
    for _ in range(1_000):
        num_tokens = rng.choice([0, 0, rng.randint(1, 512)])
        shape = make_shape(rng.randint(0, 32), num_tokens, start=rng.randint(0, 4000))
        model.observe(shape, seconds_of(shape) * exp(rng.gauss(0, noise)))
    return model


@pytest.mark.parametrize(
    ("num_tokens", "start", "pairs"), [(0, 7, 0), (1, 0, 1), (1, 9, 10), (3, 0, 6), (3, 10, 36)]
)
def test_pairs_of_a_chunk(num_tokens: int, start: int, pairs: int) -> None:
    assert count_pairs(num_tokens, start=start) == pairs
    assert pairs == sum(start + i + 1 for i in range(num_tokens))


@pytest.mark.parametrize(
    "shape",
    [
        make_shape(1),
        make_shape(8),
        make_shape(8, 13),
        make_shape(0, 512),
        make_shape(8, 64, start=3000),
    ],
)
def test_it_predicts_what_it_has_learnt_from_noisy_steps(shape: StepShape) -> None:
    assert trained_model(noise=0.05).predict(shape) == pytest.approx(seconds_of(shape), rel=0.05)


def test_a_few_steps_are_enough_for_a_first_idea() -> None:
    model = StepTimeModel()
    for shape in (
        make_shape(0, 100),
        make_shape(1),
        make_shape(1),
        make_shape(0, 200),
        make_shape(2),
    ):
        model.observe(shape, seconds_of(shape))
    for shape in (make_shape(8), make_shape(8, 100), make_shape(0, 512)):
        assert 0.6 < model.predict(shape) / seconds_of(shape) < 1.7


def test_nothing_is_known_before_the_first_step() -> None:
    model = StepTimeModel()
    assert not model.has_learnt
    assert model.predict(make_shape(8)) == 0.0
    assert model.num_prefill_tokens(0.1, start=0) == inf


@pytest.mark.parametrize("seconds", [0.0, -1.0, inf, nan])
def test_steps_without_a_duration_teach_nothing(seconds: float) -> None:
    model = StepTimeModel()
    model.observe(make_shape(8), seconds)
    assert not model.has_learnt


def test_steps_without_tokens_teach_nothing() -> None:
    model = StepTimeModel()
    model.observe(StepShape(), 0.1)
    assert not model.has_learnt


@pytest.mark.parametrize("start", [0, 100, 4000])
@pytest.mark.parametrize("seconds", [0.002, 0.02, 0.5])
def test_the_longest_chunk_is_the_inverse_of_its_seconds(seconds: float, start: int) -> None:
    model = trained_model()
    num_tokens = int(model.num_prefill_tokens(seconds, start=start))
    assert model.prefill_seconds(num_tokens, start=start) <= seconds * 1.000001
    assert model.prefill_seconds(num_tokens + 1, start=start) > seconds


def test_a_chunk_far_into_a_prompt_is_shorter() -> None:
    model = trained_model()
    assert model.num_prefill_tokens(0.1, start=4000) < 0.6 * model.num_prefill_tokens(0.1, start=0)


@pytest.mark.parametrize("seconds", [0.0, -0.5])
def test_no_time_is_no_chunk(seconds: float) -> None:
    assert trained_model().num_prefill_tokens(seconds, start=0) == 0.0


def test_free_tokens_are_not_divided_by() -> None:
    """A model may come to believe that prefills cost nothing beside the weights that are read."""
    model = StepTimeModel()
    for i in range(3_000):
        model.observe(make_shape(0, 1 + i % 50), 1.0)
    assert model.predict(make_shape(0, 50)) == pytest.approx(1.0, rel=0.01)
    assert model.num_prefill_tokens(0.5, start=0) > 500
