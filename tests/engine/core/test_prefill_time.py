from __future__ import annotations

from typing import Any

import pytest

from shoal.engine.core.prefill_time import MIN_CHUNK, PrefillTime, step_target_s
from shoal.engine.core.step_time import StepShape, StepTimeModel, count_pairs


@pytest.mark.parametrize(
    ("decodes_s", "num_decodes", "num_prefills", "itl_target_s", "target_s"),
    [
        pytest.param(0.013, 8, 1, None, 0.026, id="twice the decodes"),
        pytest.param(0.013, 8, 8, None, 0.026, id="as many prompts as answers: still half each"),
        pytest.param(0.009, 4, 28, None, 0.072, id="more prompts than answers: a share each"),
        pytest.param(0.1, 4, 60, None, 0.5, id="but no longer than a step without decodes"),
        pytest.param(0.4, 4, 60, None, 0.8, id="unless the decodes are"),
        pytest.param(0.004, 8, 1, None, 0.025, id="nobody notices 25 ms"),
        pytest.param(0.013, 8, 28, 0.05, 0.05, id="a target that was set replaces all that"),
        pytest.param(0.08, 8, 1, 0.05, 0.05, id="even if it cannot be met"),
        pytest.param(0.005, 0, 3, None, 0.5, id="no decodes"),
        pytest.param(0.005, 0, 3, 0.05, 0.5, id="no decodes, nobody waits for a next token"),
        pytest.param(0.3, 0, 3, None, 1.2, id="no decodes, and weights that take long to read"),
    ],
)
def test_target(
    decodes_s: float,
    num_decodes: int,
    num_prefills: int,
    itl_target_s: float | None,
    target_s: float,
) -> None:
    found = step_target_s(
        decodes_s, num_decodes=num_decodes, num_prefills=num_prefills, itl_target_s=itl_target_s
    )
    assert found == pytest.approx(target_s)


def make_model() -> StepTimeModel:
    """10 ms and 1 ms a token, learnt; attention is free."""
    model = StepTimeModel()
    for i in range(3_000):
        num_decodes, num_tokens, start = i % 9, (i % 7) * 40, i % 1000
        pairs = count_pairs(num_tokens, start=start)
        shape = StepShape(num_decodes, num_decodes * start, num_tokens, pairs)
        model.observe(shape, 0.010 + 0.001 * (num_decodes + num_tokens))
    return model


MODEL = make_model()


def make_time(num_decodes: int = 10, **kwargs: Any) -> PrefillTime:
    """10 decodes take 20 ms, so the target is 40 ms and 20 tokens fit, by a hair more or less."""
    defaults = {"num_prefills": 1, "itl_target_s": None}
    return PrefillTime(MODEL, StepShape(num_decodes, 0), **{**defaults, **kwargs})


def test_a_prompt_gets_what_the_decodes_leave() -> None:
    assert make_time().fit(4_000, start=0) in (19, 20, 21)
    assert make_time(itl_target_s=0.080).fit(4_000, start=0) in range(58, 63)


def test_a_short_prompt_gets_all_it_lacks() -> None:
    assert make_time().fit(3, start=0) == 3


def test_what_one_prefill_took_the_next_does_not_get() -> None:
    time = make_time()
    time.spend(12, start=0)
    assert not time.is_spent
    assert time.fit(4_000, start=0) in (7, 8, 9)
    time.spend(8, start=0)
    assert time.fit(4_000, start=0) == 0


def test_while_others_wait_the_first_takes_half() -> None:
    time = make_time(num_prefills=3)
    assert time.fit(4_000, start=0) in (9, 10, 11)
    assert time.fit(8, start=0) == 8
    time.spend(10, start=0)
    assert time.fit(4_000, start=0) in (9, 10, 11)  # the second takes what is there


def test_the_first_prefill_advances_whatever_the_target() -> None:
    """The decodes alone take 60 ms: one eighth of it is for prefills, however late they make it."""
    time = make_time(50, itl_target_s=0.010)
    assert not time.is_spent
    assert time.fit(4_000, start=0) in (6, 7, 8)
    time.spend(7, start=0)
    assert time.is_spent
    assert time.fit(4_000, start=0) == 0


def test_the_smallest_chunk() -> None:
    time = make_time(0, itl_target_s=0.001)  # without decodes there is half a second
    assert time.fit(4_000, start=0) > 400
    time = make_time(1, itl_target_s=0.001)  # an eighth of 11 ms is one token
    assert time.fit(4_000, start=0) == MIN_CHUNK
    assert time.fit(2, start=0) == 2
    time.spend(2, start=0)
    assert time.fit(2, start=0) == 0


def test_a_last_token_is_not_a_sliver() -> None:
    time = make_time()
    time.spend(18, start=0)
    assert time.fit(1, start=0) == 1  # it completes a prompt
    assert time.fit(40, start=0) == 0  # two of forty would not
