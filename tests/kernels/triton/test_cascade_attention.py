"""Cascade attention in Triton: the result of plain attention over requests that share a prefix."""

from __future__ import annotations

import math

import pytest
import torch

from shoal.kernels.cascade_attention import SharedPrefixes, cascade_attention
from shoal.kernels.dispatch import triton_on_cpu
from tests.kernels.triton.attention_case import AttentionCase
from tests.kernels.triton.closeness import assert_as_exact_as


def prefixes(device: torch.device, *, starts: list[int], lens: list[int]) -> SharedPrefixes:
    return SharedPrefixes(
        group_start_loc=torch.tensor(starts, dtype=torch.int32, device=device),
        prefix_lens=torch.tensor(lens, dtype=torch.int32, device=device),
        max_prefix_len=max(lens),
        max_group_tokens=20,
    )


@pytest.mark.parametrize("options", [{}, {"sinks": True, "softcap": 3.0}])
def test_as_exact_as_plain_attention(options: dict[str, object], device: torch.device) -> None:
    case = AttentionCase([(1, 30), (2, 19), (17, 40), (1, 17)], device, shared_blocks=4, **options)  # type: ignore[arg-type]
    groups = prefixes(device, starts=[0, 3, 4], lens=[16, 0])
    out = torch.full_like(case.query, math.nan)
    with triton_on_cpu():
        out, lse = cascade_attention(
            case.query, case.key_cache, case.value_cache, case.batch, groups,
            **case.options(), out=out,
        )  # fmt: skip
    (torch_out, torch_lse), (exact, exact_lse) = map(case.formula, (torch.float16, torch.float64))
    assert_as_exact_as(torch_out, out, exact)
    assert_as_exact_as(torch_lse, lse, exact_lse)
