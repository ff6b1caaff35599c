from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.token_logprobs import TokenLogprobTensors, token_logprobs, token_logprobs_torch
from tests.kernels.triton.closeness import assert_as_exact_as


@pytest.fixture(autouse=True)
def triton() -> Iterator[None]:
    with triton_on_cpu():
        yield


def random_logits(num_rows: int, vocab_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(vocab_size)
    return 3 * torch.randn(num_rows, vocab_size, generator=generator)


def run(
    logits: Tensor, token_ids: Tensor, num_top: int, device: torch.device
) -> TokenLogprobTensors:
    found = token_logprobs(logits.to(device), token_ids.to(device), num_top=num_top)
    return TokenLogprobTensors(*(tensor.cpu() for tensor in found))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("vocab_size", "num_top"), [(1, 1), (2, 0), (255, 3), (256, 1), (257, 4), (1031, 2)]
)
def test_equals_the_twin(
    vocab_size: int, num_top: int, dtype: torch.dtype, device: torch.device
) -> None:
    logits = random_logits(3, vocab_size).to(dtype)
    token_ids = torch.tensor([0, vocab_size - 1, int(logits[2].argmin())])
    found = run(logits, token_ids, num_top, device)
    expected = token_logprobs_torch(logits, token_ids, num_top=num_top)
    assert found.ranks.tolist() == expected.ranks.tolist()
    if dtype == torch.float32:  # where nothing ties
        assert found.token_ids.tolist() == expected.token_ids.tolist()
    exact = logits.double().log_softmax(-1)
    assert_as_exact_as(expected.logprobs, found.logprobs, exact.gather(1, found.token_ids))
    assert_as_exact_as(expected.log_z, found.log_z, logits.double().logsumexp(-1))


def test_more_than_the_vocabulary_gives_the_vocabulary(device: torch.device) -> None:
    logits = random_logits(1, 5)
    found = run(logits, torch.tensor([3]), 20, device)
    assert found.token_ids.tolist() == [[3, *logits[0].argsort(descending=True).tolist()]]


def test_the_lower_id_comes_first_where_logits_tie(device: torch.device) -> None:
    logits = torch.zeros(1, 600)
    logits[0, [2, 590, 599]] = 1.0
    found = run(logits, torch.tensor([4]), 6, device)
    assert found.token_ids.tolist() == [[4, 2, 590, 599, 0, 1, 3]]
    assert found.ranks.tolist() == [4]


def test_tokens_without_a_chance_are_reported_last(device: torch.device) -> None:
    logits = torch.full((1, 300), -math.inf)
    logits[0, [290, 17]] = torch.tensor([0.0, 1.0])
    found = run(logits, torch.tensor([8]), 4, device)
    assert found.token_ids.tolist() == [[8, 17, 290, 0, 1]]
    assert found.ranks.tolist() == [3]
    assert found.logprobs[0, [0, 3, 4]].tolist() == [-math.inf] * 3


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_broken_rows_have_no_logprobs_and_harm_nobody_else(
    poison: float, device: torch.device
) -> None:
    logits = random_logits(3, 400)
    token_ids = torch.tensor([1, 2, 3])
    expected = token_logprobs_torch(logits, token_ids, num_top=2)
    logits[1] = poison
    twin = token_logprobs_torch(logits, token_ids, num_top=2)
    for found in (run(logits, token_ids, 2, device), twin):
        assert found.logprobs[1].isnan().all()
        assert found.log_z[1].isnan()
        assert ((found.token_ids >= 0) & (found.token_ids < 400)).all()
        assert found.token_ids[[0, 2]].tolist() == expected.token_ids[[0, 2]].tolist()
        assert found.ranks[[0, 2]].tolist() == expected.ranks[[0, 2]].tolist()


def test_no_rows(device: torch.device) -> None:
    found = run(torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64), 3, device)
    assert [tuple(tensor.shape) for tensor in found] == [(0, 4), (0, 4), (0,), (0,)]


@pytest.mark.gpu
@pytest.mark.parametrize("vocab_size", [50257, 128256, 262144])
def test_vocabularies_of_models(vocab_size: int, device: torch.device) -> None:
    logits = random_logits(64, vocab_size)
    token_ids = torch.randint(0, vocab_size, (64,), generator=torch.Generator().manual_seed(0))
    found = run(logits, token_ids, 20, device)
    expected = token_logprobs_torch(logits, token_ids, num_top=20)
    assert found.ranks.tolist() == expected.ranks.tolist()
    exact = logits.double().log_softmax(-1)
    assert_as_exact_as(expected.logprobs, found.logprobs, exact.gather(1, found.token_ids))
    assert_as_exact_as(expected.logprobs, found.logprobs, exact.gather(1, expected.token_ids))
