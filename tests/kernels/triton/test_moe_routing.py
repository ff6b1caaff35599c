from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.launch.moe_routing import CHUNK, SMALL_PAIRS
from shoal.kernels.moe_routing import permute_tokens_torch, topk_softmax_torch
from shoal.kernels.triton.moe_routing import permute_tokens, topk_softmax
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand


def exact_weights(logits: Tensor, top_k: int, renormalize: bool) -> Tensor:
    if renormalize:
        return logits.double().topk(top_k).values.softmax(-1)
    return logits.double().softmax(-1).topk(top_k).values


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k"),
    [(1, 1, 1), (1, 8, 2), (7, 5, 5), (11, 60, 8), (2, 128, 8), (3, 257, 3)],
)
def test_topk_is_the_twins(device, num_tokens, num_experts, top_k, renormalize) -> None:
    # Rounded logits have ties: the lower expert must win them.
    logits = (2 * rand(num_tokens, num_experts, device=device)).round()

    weights, ids = topk_softmax(logits, top_k, renormalize)

    want_weights, want_ids = topk_softmax_torch(logits, top_k=top_k, renormalize=renormalize)
    assert ids.dtype == torch.int32
    assert torch.equal(ids, want_ids)
    assert_as_exact_as(want_weights, weights, exact_weights(logits, top_k, renormalize))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_topk_reads_narrow_logits(device, dtype) -> None:
    logits = rand(5, 16, device=device, dtype=dtype)

    weights, ids = topk_softmax(logits, 3, True)

    want_weights, want_ids = topk_softmax_torch(logits, top_k=3)
    assert torch.equal(ids, want_ids)
    assert_as_exact_as(want_weights, weights, exact_weights(logits, 3, True))


def test_experts_at_minus_infinity_are_chosen_last(device) -> None:
    logits = torch.full((1, 8), float("-inf"), device=device)
    logits[0, 5] = 0.0

    weights, ids = topk_softmax(logits, 3, True)

    assert ids.tolist() == [[5, 0, 1]]
    assert weights.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("block_m", [1, 16, 48, 64])
@pytest.mark.parametrize(
    ("num_pairs", "num_experts"),
    [(1, 1), (2, 8), (31, 7), (130, 128), (SMALL_PAIRS, 8), (SMALL_PAIRS + 1, 5)],
)
def test_permutation_is_the_twins(device, num_pairs, num_experts, block_m) -> None:
    generator = torch.Generator().manual_seed(num_pairs)
    # Ids below 0 and above the last expert are left out.
    ids = torch.randint(-1, num_experts + 1, (num_pairs,), generator=generator).int().to(device)

    check_permutation(ids, num_experts, block_m)


@pytest.mark.parametrize("num_pairs", [CHUNK + 1, 3 * CHUNK])
def test_one_expert_gets_all(device, num_pairs) -> None:
    ids = torch.full((num_pairs,), 3, dtype=torch.int32, device=device)

    check_permutation(ids, 5, 16)


def test_nobody_gets_any(device) -> None:
    check_permutation(torch.full((20,), -1, dtype=torch.int32, device=device), 5, 16)


@pytest.mark.gpu
@pytest.mark.parametrize("num_experts", [8, 128, 256])
@pytest.mark.parametrize("num_pairs", [4096, 8 * 4096, 8 * 16384 + 1])
def test_many_pairs(device, num_pairs, num_experts) -> None:
    ids = torch.randint(-1, num_experts, (num_pairs,), dtype=torch.int32, device=device)

    check_permutation(ids, num_experts, 64)


def check_permutation(ids, num_experts, block_m) -> None:
    result = permute_tokens(ids, num_experts, block_m)

    want = permute_tokens_torch(ids, num_experts=num_experts, block_m=block_m)
    assert torch.equal(result.sorted_pairs, want.sorted_pairs)
    assert torch.equal(result.expert_of_block, want.expert_of_block)
    assert (result.block_m, result.num_pairs) == (want.block_m, want.num_pairs)
