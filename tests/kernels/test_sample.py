"""The torch twins of sampling and log-probabilities, and what the public functions refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from shoal.kernels.sample import sample_tokens
from shoal.kernels.token_logprobs import token_logprobs


def columns(num_rows: int, **values: float) -> dict[str, Tensor]:
    named = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **values}
    dtypes = {"top_k": torch.int32}
    return {
        **{
            name: torch.full((num_rows,), value, dtype=dtypes.get(name, torch.float32))
            for name, value in named.items()
        },
        "seeds": torch.zeros(num_rows, dtype=torch.int64),
        "positions": torch.arange(num_rows),
    }


def random_logits(num_rows: int, vocab_size: int) -> Tensor:
    return 3 * torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(0))


def test_greedy_rows_take_the_best_token() -> None:
    logits = random_logits(5, 700)
    found = sample_tokens(logits, **columns(5, temperature=0.0))
    assert found.tolist() == logits.argmax(dim=1).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_logits_mean_what_they_round_to(dtype: torch.dtype) -> None:
    logits = random_logits(50, 700).to(dtype)
    rules = columns(50, top_p=0.9, temperature=1.3)
    assert (
        sample_tokens(logits, **rules).tolist() == sample_tokens(logits.float(), **rules).tolist()
    )


def test_logits_are_left_as_they_are() -> None:
    logits = random_logits(3, 40)
    logits[1, 5] = math.nan
    before = logits.clone()
    broken = torch.empty(3, dtype=torch.bool)
    sample_tokens(logits, **columns(3, top_k=3), broken=broken)
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)
    assert broken.tolist() == [False, True, False]


def test_without_filters_the_hint_changes_nothing() -> None:
    logits, rules = random_logits(20, 300), columns(20)
    told = sample_tokens(logits, **rules, none_filtered=True)
    assert told.tolist() == sample_tokens(logits, **rules).tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", torch.ones(3, dtype=torch.float64)),
        ("top_k", torch.zeros(2, dtype=torch.int32)),
        ("top_p", torch.ones(3, 1)),
        ("min_p", torch.ones(6)[::2]),
        ("seeds", torch.zeros(3, dtype=torch.int32)),
        ("positions", torch.zeros(3)),
        ("broken", torch.zeros(3)),
    ],
)
def test_a_column_that_does_not_fit_is_named(name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        sample_tokens(torch.zeros(3, 9), **{**columns(3), name: value})


@pytest.mark.parametrize("logits", [torch.zeros(9), torch.zeros(3, 0), torch.zeros(3, 9).double()])
def test_logits_that_do_not_fit_are_refused(logits: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^logits are "):
        sample_tokens(logits, **columns(3))


def test_logprobs_equal_log_softmax() -> None:
    logits = random_logits(4, 90)
    token_ids = torch.tensor([3, 0, 89, 7])
    found = token_logprobs(logits, token_ids, num_top=2)
    expected = logits.double().log_softmax(dim=1)
    torch.testing.assert_close(
        found.logprobs.double(), expected.gather(1, found.token_ids), rtol=0, atol=2e-6
    )
    order = expected.argsort(dim=1, descending=True)
    assert found.token_ids.tolist() == torch.cat([token_ids.unsqueeze(1), order[:, :2]], 1).tolist()
    places = (order == token_ids.unsqueeze(1)).nonzero()[:, 1]
    assert found.ranks.tolist() == (places + 1).tolist()


@pytest.mark.parametrize(
    ("logits", "token_ids", "num_top", "message"),
    [
        (torch.zeros(3, 9), torch.zeros(2, dtype=torch.int64), 1, "num_rows"),
        (torch.zeros(9), torch.zeros(9, dtype=torch.int64), 1, "num_rows"),
        (torch.zeros(3, 9), torch.zeros(3, dtype=torch.int32), 1, "int64"),
        (torch.zeros(3, 9), torch.zeros(3, dtype=torch.int64), -1, "num_top"),
    ],
)
def test_logprobs_refuse_what_does_not_fit(
    logits: Tensor, token_ids: Tensor, num_top: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        token_logprobs(logits, token_ids, num_top=num_top)
