from __future__ import annotations

import math

import pytest
import torch

from shoal.engine.runner.logit_edits import apply_edits_
from tests.engine.runner.plans import make_new, make_plan

VOCAB = 12


def edited(*requests, rows: list[int] | None = None) -> torch.Tensor:  # type: ignore[no-untyped-def]
    logits = base(len(requests))
    plan = make_plan(*requests, vocab_size=VOCAB, rows=rows)
    assert plan.edits is not None
    apply_edits_(logits, plan.edits)
    return logits


def base(num_rows: int) -> torch.Tensor:
    """-6 .. 5 in each row, so that both signs are there."""
    return (torch.arange(VOCAB, dtype=torch.float32) - 6).repeat(num_rows, 1)


def changed(logits: torch.Tensor, row: int = 0) -> dict[int, float]:
    before = base(len(logits))[row]
    return {i: float(logits[row, i]) for i in range(VOCAB) if logits[row, i] != before[i]}


def test_repetition_penalty_covers_prompt_and_output_once_each() -> None:
    logits = edited(make_new([1, 1, 8], [2, 8, 10], repetition_penalty=2.0))
    assert changed(logits) == {1: -10.0, 2: -8.0, 8: 1.0, 10: 2.0}


def test_presence_penalty_counts_output_tokens_once() -> None:
    logits = edited(make_new([1, 3], [2, 8, 8], presence_penalty=0.5))
    assert changed(logits) == {2: -4.5, 8: 1.5}


def test_frequency_penalty_counts_every_occurrence_in_the_output() -> None:
    logits = edited(make_new([1, 3], [2, 8, 8], frequency_penalty=0.5))
    assert changed(logits) == {2: -4.5, 8: 1.0}


def test_negative_penalties_encourage() -> None:
    logits = edited(make_new([1], [8, 8], presence_penalty=-1.0, frequency_penalty=-1.0))
    assert changed(logits) == {8: 2 + 1 + 2}


def test_penalties_combine_in_the_documented_order() -> None:
    """(2 / 2) - 0.5 - 2 * 0.25 + 1: repetition, presence, frequency, bias."""
    new = make_new(
        [0],
        [8, 8],
        repetition_penalty=2.0,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias={8: 1.0},
    )
    assert changed(edited(new)) == {0: -12.0, 8: 1.0}


def test_logit_bias_adds() -> None:
    assert changed(edited(make_new(logit_bias={3: 5.0, 4: -5.0}))) == {3: 2.0, 4: -7.0}


@pytest.mark.parametrize(("num_output", "is_forbidden"), [(0, True), (1, True), (2, False)])
def test_stop_tokens_are_forbidden_until_min_tokens(num_output: int, is_forbidden: bool) -> None:
    new = make_new([1], [5] * num_output, min_tokens=2, stop_token_ids=[7, 9, VOCAB + 3])
    plan = make_plan(new, vocab_size=VOCAB)
    if not is_forbidden:
        assert plan.edits is None
    else:
        assert changed(edited(new)) == {7: -math.inf, 9: -math.inf}


def test_a_bias_does_not_lift_a_forbidden_token() -> None:
    new = make_new(min_tokens=1, stop_token_ids=[7], logit_bias={7: 100.0})
    assert changed(edited(new)) == {7: -math.inf}


def test_rows_do_not_touch_each_other() -> None:
    logits = edited(
        make_new([1], [2], presence_penalty=1.0),
        make_new([3], [4]),
        make_new([5], [6], frequency_penalty=1.0, logit_bias={0: 1.0}),
        rows=[4, 0, 2],
    )
    assert [changed(logits, row) for row in range(3)] == [{2: -5.0}, {}, {0: -5.0, 6: -1.0}]


def test_a_first_token_has_no_output_to_penalise() -> None:
    logits = edited(make_new([1, 2], presence_penalty=1.0, frequency_penalty=1.0))
    assert changed(logits) == {}


def test_plain_requests_have_no_edits() -> None:
    assert make_plan(make_new(), make_new(temperature=0.0), vocab_size=VOCAB).edits is None


def test_an_answer_that_was_begun_elsewhere_is_output_too() -> None:
    begun = make_plan(
        make_new([1, 3, 2, 8], [8], output_offset=2, presence_penalty=0.5, frequency_penalty=0.5),
        vocab_size=VOCAB,
    )
    alone = make_plan(
        make_new([1, 3], [2, 8, 8], presence_penalty=0.5, frequency_penalty=0.5), vocab_size=VOCAB
    )
    assert begun.positions.tolist() == alone.positions.tolist() == [3]
    assert begun.edits is not None
    assert alone.edits is not None
    expected, got = base(1), base(1)
    apply_edits_(expected, alone.edits)
    apply_edits_(got, begun.edits)
    assert torch.equal(got, expected)
