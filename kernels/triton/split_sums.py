"""Adds the partial sums of programs that shared a tile of a matrix product, in a fixed order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from .quick_launch import dependent_launch

_BLOCK = 512


@triton.jit(do_not_specialize=["num_tokens"])
def _add_splits_kernel(
    partial_ptr,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    out_ptr,
    num_tokens,
    out_dim,
    HAS_SCALES: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SPLITS: tl.constexpr,
    PDL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[m, n] = (sum over s, ascending, of partial[s, m, n]) * scales[m, n] + bias[n]."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < out_dim
    offsets = row.to(tl.int64) * out_dim + columns
    if PDL:
        gdc_wait()
    total = tl.load(partial_ptr + offsets, mask=mask, other=0)
    for split in tl.static_range(1, SPLITS):
        rows = (split * num_tokens + row).to(tl.int64) * out_dim
        total += tl.load(partial_ptr + rows + columns, mask=mask, other=0)
    result = total.to(tl.float32)
    if HAS_SCALES:
        weight_scale = tl.load(weight_scale_ptr + columns, mask=mask, other=0.0)
        result = result * tl.load(x_scale_ptr + row) * weight_scale
    if HAS_BIAS:
        result += tl.load(bias_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), mask=mask)


def add_splits(
    partial: Tensor,
    out: Tensor,
    *,
    scales: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
) -> None:
    """Write the sum over partial's first axis to `out`.

    partial: [num_splits, num_tokens, out_dim] fp32 or int32; scales: those of the rows and of the
    columns, fp32.
    """
    num_splits, num_tokens, out_dim = partial.shape
    pdl = dependent_launch(out.device)
    x_scale, weight_scale = scales or (partial, partial)
    _add_splits_kernel[(num_tokens, triton.cdiv(out_dim, _BLOCK))](
        partial,
        x_scale,
        weight_scale,
        partial if bias is None else bias,
        out,
        num_tokens,
        out_dim,
        HAS_SCALES=scales is not None,
        HAS_BIAS=bias is not None,
        SPLITS=num_splits,
        PDL=pdl,
        BLOCK=_BLOCK,
        num_warps=4,
        launch_pdl=pdl,
    )


def split_output(out: Tensor, num_splits: int, *, sum_dtype: torch.dtype = torch.float32) -> Tensor:
    """Where the programs of a product write: `out` itself, or room for each split's sums."""
    if num_splits == 1:
        return out
    return torch.empty(num_splits, *out.shape, dtype=sum_dtype, device=out.device)
