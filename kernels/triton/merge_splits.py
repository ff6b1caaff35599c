"""The second half of split attention: rows whose keys were split are put together."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ..attention_plan import ITEM as _ITEM
from ..attention_plan import TilePlan
from .quick_launch import QuickLaunch, dependent_launch

ITEM = tl.constexpr(_ITEM)
ROWS_AT_A_TIME = 32
"""Partial rows, heads x splits, that a program holds."""


def merge_splits(
    plan: TilePlan,
    partial: Tensor,
    partial_lse: Tensor,
    out: Tensor,
    lse: Tensor | None,
    num_programs: int,
) -> None:
    """Write the rows of `out` (and `lse`) of the plan's tiles with several splits.

    partial: [rows, num_q_heads, head_dim] fp32; partial_lse: [rows, num_q_heads], base 2. Splits
    are added in their order, some at a time: a row's sum depends on its own splits alone.
    """
    num_q_heads, head_dim = partial.shape[1:]
    group = num_q_heads // plan.num_kv_heads
    heads = triton.next_power_of_2(group)
    pdl = dependent_launch(out.device)
    _quick_merge_splits(
        (num_programs,),
        out, partial_lse if lse is None else lse, partial, partial_lse, plan.items,
        out.stride(0), out.stride(1),
        NUM_KV_HEADS=plan.num_kv_heads,
        GROUP=group,
        HEADS=heads,
        SPLITS=max(ROWS_AT_A_TIME // heads, 1),
        HEAD_DIM=head_dim,
        BLOCK_D=triton.next_power_of_2(head_dim),
        HAS_LSE=lse is not None,
        PDL=pdl,
        num_warps=4,
        launch_pdl=pdl,
    )  # fmt: skip


@triton.jit
def _merge_splits_kernel(
    out_ptr, lse_ptr, partial_ptr, partial_lse_ptr, items_ptr,
    stride_ot, stride_oh,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEADS: tl.constexpr, SPLITS: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, HAS_LSE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out = sum_s 2^lse_s * partial_s / sum_s 2^lse_s, for the tile of an item's first split.

    The items of other splits have nothing to do.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    NUM_Q_HEADS: tl.constexpr = NUM_KV_HEADS * GROUP
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    heads = tl.arange(0, HEADS)
    offs_s = tl.arange(0, SPLITS)
    offs_d = tl.arange(0, BLOCK_D)
    head_held = heads < GROUP
    column_held = offs_d < HEAD_DIM
    first_item = tl.program_id(0) // NUM_KV_HEADS
    num_work = tl.load(items_ptr + first_item * ITEM + 9) * NUM_KV_HEADS
    for work in range(tl.program_id(0), num_work, tl.num_programs(0)):
        item_ptr = items_ptr + work // NUM_KV_HEADS * ITEM
        num_tokens = tl.load(item_ptr + 1)
        partial_row = tl.load(item_ptr + 6)
        num_splits = tl.load(item_ptr + 8)
        merges = (tl.load(item_ptr + 7) == 0) & (partial_row >= 0)
        q_head = work % NUM_KV_HEADS * GROUP + heads
        for token in range(tl.where(merges, num_tokens, 0)):
            largest = tl.full([HEADS], float("-inf"), tl.float32)
            total = tl.zeros([HEADS], tl.float32)
            acc = tl.zeros([HEADS, BLOCK_D], tl.float32)
            for first in range(0, num_splits, SPLITS):
                split = first + offs_s
                held = head_held[:, None] & (split < num_splits)[None, :]
                rows = (partial_row + split * num_tokens + token).to(tl.int64)
                place = rows[None, :] * NUM_Q_HEADS + q_head[:, None]
                split_lse = tl.load(partial_lse_ptr + place, mask=held, other=float("-inf"))
                parts = tl.load(
                    partial_ptr + place[:, :, None] * HEAD_DIM + offs_d[None, None, :],
                    mask=held[:, :, None] & column_held[None, None, :],
                    other=0.0,
                )
                new_largest = tl.maximum(largest, tl.max(split_lse, axis=1))
                shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)
                decay = tl.exp2(largest - shift)
                weight = tl.exp2(split_lse - shift[:, None])
                acc = acc * decay[:, None] + tl.sum(parts * weight[:, :, None], axis=1)
                total = total * decay + tl.sum(weight, axis=1)
                largest = new_largest
            # A row without keys has largest = -inf: its result is 0, its log-sum-exp -inf.
            total = tl.where(total > 0, total, 1.0)
            result = acc / total[:, None]
            row = (tl.load(item_ptr) + token).to(tl.int64)
            o_ptrs = out_ptr + row * stride_ot + q_head[:, None] * stride_oh + offs_d[None, :]
            out_mask = head_held[:, None] & column_held[None, :]
            tl.store(o_ptrs, result.to(out_ptr.dtype.element_ty), mask=out_mask)
            if HAS_LSE:
                row_lse = (largest + tl.log2(total)) / LOG2_E
                tl.store(lse_ptr + row * NUM_Q_HEADS + q_head, row_lse, mask=head_held)


_quick_merge_splits = QuickLaunch(_merge_splits_kernel)
