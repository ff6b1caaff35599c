from __future__ import annotations

import pytest
import torch

from shoal.engine.runner.logprobs import token_logprobs

LOGITS = torch.tensor([[1.0, 4.0, 2.0, 3.0], [0.0, 0.0, 5.0, 5.0]])


def test_reports_the_chosen_token_first_then_the_best() -> None:
    report = token_logprobs(LOGITS, torch.tensor([2, 3]), num_top=[2, 2])[0]
    expected = LOGITS[0].log_softmax(dim=-1)
    assert report.token_ids == [2, 1, 3]
    assert report.logprobs == pytest.approx(expected[[2, 1, 3]].tolist())
    assert report.rank == 3


def test_tokens_that_tie_share_the_better_rank() -> None:
    reports = token_logprobs(LOGITS[[1, 1, 1]], torch.tensor([2, 3, 0]), num_top=[0, 0, 0])
    assert [report.rank for report in reports] == [1, 1, 3]


def test_each_row_gets_as_many_as_it_asked_for() -> None:
    reports = token_logprobs(LOGITS, torch.tensor([0, 0]), num_top=[0, 3])
    assert [len(report.token_ids) for report in reports] == [1, 4]
    assert [len(report.logprobs) for report in reports] == [1, 4]


def test_more_than_the_vocabulary_gives_the_vocabulary() -> None:
    (report,) = token_logprobs(LOGITS[:1], torch.tensor([0]), num_top=[20])
    assert report.token_ids == [0, 1, 3, 2, 0]
