"""Triton body of `kernels.merge_states`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


def merge_states_triton(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor, out: Tensor, lse: Tensor
) -> None:
    """Merge a and b into out and lse: one program a row of HEADS heads."""
    num_tokens, num_heads, head_dim = out.shape
    if not out.numel():
        return
    heads = min(triton.next_power_of_2(num_heads), 8)
    _merge_states_kernel[(num_tokens, triton.cdiv(num_heads, heads))](
        out, lse, out_a, lse_a, out_b, lse_b, num_heads,
        *out.stride()[:2], *out_a.stride()[:2], *out_b.stride()[:2],
        *lse.stride(), *lse_a.stride(), *lse_b.stride(),
        HEAD_DIM=head_dim,
        BLOCK_D=triton.next_power_of_2(head_dim),
        HEADS=heads,
        num_warps=4,
    )  # fmt: skip


@triton.jit
def _merge_states_kernel(
    out_ptr, lse_ptr, out_a_ptr, lse_a_ptr, out_b_ptr, lse_b_ptr, num_heads,
    stride_ot, stride_oh, stride_at, stride_ah, stride_bt, stride_bh,
    stride_lt, stride_lh, stride_lat, stride_lah, stride_lbt, stride_lbh,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """(e^lse_a * a + e^lse_b * b) / (e^lse_a + e^lse_b) in fp32."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    offs_d = tl.arange(0, BLOCK_D)
    held = head < num_heads
    lse_a = tl.load(lse_a_ptr + token * stride_lat + head * stride_lah, mask=held, other=0.0)
    lse_b = tl.load(lse_b_ptr + token * stride_lbt + head * stride_lbh, mask=held, other=0.0)
    largest = tl.maximum(lse_a, lse_b)
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    weight_a = tl.exp(lse_a - shift)
    weight_b = tl.exp(lse_b - shift)
    total = weight_a + weight_b
    any_keys = total > 0
    total = tl.where(any_keys, total, 1.0)
    share_a = (weight_a / total)[:, None]
    share_b = (weight_b / total)[:, None]
    # A part without keys is not read: it may hold anything.
    mask = held[:, None] & (offs_d < HEAD_DIM)[None, :]
    a_ptrs = out_a_ptr + token * stride_at + head[:, None] * stride_ah + offs_d[None, :]
    b_ptrs = out_b_ptr + token * stride_bt + head[:, None] * stride_bh + offs_d[None, :]
    a = tl.load(a_ptrs, mask=mask & (share_a > 0), other=0.0).to(tl.float32)
    b = tl.load(b_ptrs, mask=mask & (share_b > 0), other=0.0).to(tl.float32)
    o_ptrs = out_ptr + token * stride_ot + head[:, None] * stride_oh + offs_d[None, :]
    tl.store(o_ptrs, (a * share_a + b * share_b).to(out_ptr.dtype.element_ty), mask=mask)
    lse = tl.where(any_keys, shift + tl.log(total), float("-inf"))
    tl.store(lse_ptr + token * stride_lt + head * stride_lh, lse, mask=held)
