"""Merging two parts of attention in Triton against its twin and the exact result."""

from __future__ import annotations

import math

import pytest
import torch

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.merge_states import merge_states, merge_states_torch
from tests.kernels.triton.closeness import assert_as_exact_as

DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * torch.cuda.is_available()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(0, 3, 8), (1, 1, 1), (5, 13, 80)])
def test_as_its_twin(
    dtype: torch.dtype, tokens: int, heads: int, head_dim: int, device: torch.device
) -> None:
    rng = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    a, b = (draw(tokens, heads, head_dim).to(dtype).to(device) for _ in "ab")
    lse_a, lse_b = ((draw(tokens, heads) * 9).to(device) for _ in "ab")
    if tokens:
        lse_a[0, 0] = -math.inf
        a[0, 0] = math.nan  # a part without keys may hold anything
        lse_b[-1, -1] = -math.inf
        b[-1, -1] = math.nan
    with triton_on_cpu():
        out, lse = merge_states(a, lse_a, b, lse_b)
    twins, exacts = [], []
    for results, wide in ((twins, False), (exacts, True)):
        parts = [x.double() if wide else x for x in (a, lse_a, b, lse_b)]
        results += [torch.empty_like(parts[0]), torch.empty_like(parts[1])]
        merge_states_torch(*parts, *results)
    assert_as_exact_as(twins[0], out, exacts[0])
    if tokens * heads > 1:
        assert_as_exact_as(twins[1], lse, exacts[1])
    else:
        assert lse.tolist() == twins[1].tolist()


def test_two_parts_without_keys(device: torch.device) -> None:
    part = torch.full((1, 2, 4), math.nan, device=device)
    lse = torch.full((1, 2), -math.inf, device=device)
    with triton_on_cpu():
        out, merged = merge_states(part, lse, part, lse)
    assert not out.any()
    assert (merged == -math.inf).all()
