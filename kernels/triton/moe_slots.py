"""The sum over a token's experts of what each of them made of it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from .quick_launch import dependent_launch


@triton.jit
def _add_slots_kernel(
    partial_ptr,
    ids_ptr,
    out_ptr,
    num_experts,
    dim,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[t] = sum over slots, ascending, of partial[t * TOP_K + slot]; fp32 in between.

    The slots of ids that are no experts were never written, and are left out.
    """
    if PDL:
        gdc_wait()
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for slot in tl.static_range(TOP_K):
        pair = token * TOP_K + slot
        expert = tl.load(ids_ptr + pair)
        mask = (columns < dim) & (expert >= 0) & (expert < num_experts)
        total += tl.load(partial_ptr + pair * dim + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(
        out_ptr + token * dim + columns, total.to(out_ptr.dtype.element_ty), mask=columns < dim
    )


def add_slots(partial: Tensor, topk_ids: Tensor, *, num_experts: int) -> Tensor:
    """[num_tokens, dim] of partial's dtype from partial [num_tokens * top_k, dim]."""
    num_tokens, top_k = topk_ids.shape
    dim = partial.shape[1]
    out = torch.empty(num_tokens, dim, dtype=partial.dtype, device=partial.device)
    pdl = dependent_launch(out.device)
    block = min(triton.next_power_of_2(dim), 1024)
    _add_slots_kernel[(num_tokens, triton.cdiv(dim, block))](
        partial,
        topk_ids,
        out,
        num_experts,
        dim,
        TOP_K=top_k,
        BLOCK=block,
        PDL=pdl,
        num_warps=4,
        launch_pdl=pdl,
    )
    return out
