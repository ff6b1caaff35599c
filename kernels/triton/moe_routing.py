"""Top-k of the router's logits, and pairs sorted by expert, without the host."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..launch.moe_routing import permute_config, topk_config
from ..moe_routing import TokenPermutation, max_permuted_blocks
from .quick_launch import dependent_launch
from .rows import as_rows


@triton.jit(do_not_specialize=["num_tokens"])
def _topk_softmax_kernel(
    logits_ptr,
    weights_ptr,
    ids_ptr,
    num_tokens,
    num_experts,
    stride_logits,
    TOP_K: tl.constexpr,
    RENORMALIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    EXPERTS: tl.constexpr,
    SLOTS: tl.constexpr,
    PDL: tl.constexpr,
):
    """weights = exp(logit - log_z) of the TOP_K largest logits, the lower expert first of equals.

    log_z is over the chosen experts when RENORMALIZE, else over all.
    """
    if PDL:
        gdc_wait()
    tokens = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    experts = tl.arange(0, EXPERTS)
    slots = tl.arange(0, SLOTS)
    mask = (tokens[:, None] < num_tokens) & (experts[None, :] < num_experts)
    offsets = tokens[:, None].to(tl.int64) * stride_logits + experts[None, :]
    logits = tl.load(logits_ptr + offsets, mask=mask, other=float("-inf")).to(tl.float32)
    left = logits
    # An expert that is taken, or none, must lose even to -inf.
    is_left = mask
    top_logits = tl.full((TOKENS, SLOTS), float("-inf"), tl.float32)
    top_ids = tl.zeros((TOKENS, SLOTS), tl.int32)
    for slot in tl.static_range(TOP_K):
        best = tl.max(left, axis=1)
        is_best = is_left & (left == best[:, None])
        chosen = tl.min(tl.where(is_best, experts[None, :], EXPERTS), axis=1)
        top_logits = tl.where(slots[None, :] == slot, best[:, None], top_logits)
        top_ids = tl.where(slots[None, :] == slot, chosen[:, None], top_ids)
        is_taken = experts[None, :] == chosen[:, None]
        left = tl.where(is_taken, float("-inf"), left)
        is_left = is_left & (experts[None, :] != chosen[:, None])
    largest = tl.max(top_logits, axis=1)
    largest = tl.where(largest == float("-inf"), 0.0, largest)  # no inf - inf
    if RENORMALIZE:
        total = tl.sum(tl.exp(top_logits - largest[:, None]), axis=1)
    else:
        total = tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    total = tl.maximum(total, 1e-30)  # at least 1, but for rows that are not there
    weights = tl.exp(top_logits - largest[:, None]) / total[:, None]
    out = tokens[:, None].to(tl.int64) * TOP_K + slots[None, :]
    out_mask = (tokens[:, None] < num_tokens) & (slots[None, :] < TOP_K)
    tl.store(weights_ptr + out, weights, mask=out_mask)
    tl.store(ids_ptr + out, top_ids, mask=out_mask)


def topk_softmax(router_logits: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """See `shoal.kernels.moe_routing`."""
    logits = as_rows(router_logits)
    num_tokens, num_experts = logits.shape
    weights = torch.empty(num_tokens, top_k, dtype=torch.float32, device=logits.device)
    ids = torch.empty(num_tokens, top_k, dtype=torch.int32, device=logits.device)
    config = topk_config(num_tokens, num_experts)
    pdl = dependent_launch(logits.device)
    _topk_softmax_kernel[(triton.cdiv(num_tokens, config.tokens),)](
        logits,
        weights,
        ids,
        num_tokens,
        num_experts,
        logits.stride(0),
        TOP_K=top_k,
        RENORMALIZE=renormalize,
        TOKENS=config.tokens,
        EXPERTS=config.experts,
        SLOTS=triton.next_power_of_2(top_k),
        PDL=pdl,
        num_warps=config.num_warps,
        launch_pdl=pdl,
    )
    return weights, ids


@triton.jit(do_not_specialize=["num_pairs"])
def _count_kernel(
    ids_ptr,
    counts_ptr,
    num_pairs,
    num_experts,
    CHUNK: tl.constexpr,
    EXPERTS: tl.constexpr,
    PDL: tl.constexpr,
):
    """counts[c, e] = pairs of chunk c whose expert is e."""
    if PDL:
        gdc_wait()
    pairs = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    experts = tl.arange(0, EXPERTS)
    counts = _chunk_counts(ids_ptr, pairs, num_pairs, num_experts, EXPERTS)
    offsets = tl.program_id(0) * num_experts + experts
    tl.store(counts_ptr + offsets, counts, mask=experts < num_experts)


@triton.jit
def _chunk_counts(ids_ptr, pairs, num_pairs, num_experts, EXPERTS: tl.constexpr):
    ids = tl.load(ids_ptr + pairs, mask=pairs < num_pairs, other=-1)
    is_expert = (ids >= 0) & (ids < num_experts)
    return tl.histogram(tl.where(is_expert, ids, 0), EXPERTS, mask=is_expert)


@triton.jit(do_not_specialize=["num_pairs", "num_chunks", "max_blocks"])
def _place_kernel(
    ids_ptr,
    counts_ptr,
    sorted_pairs_ptr,
    expert_of_block_ptr,
    num_pairs,
    num_experts,
    num_chunks,
    max_blocks,
    BLOCK_M: tl.constexpr,
    PADDED_M: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,
    EXPERTS: tl.constexpr,
    STRIP: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write each pair of a chunk to its place: start of its expert + pairs of it that come before.

    The start of an expert is the sum of the padded counts of those below it. The programs also
    fill the places behind each expert's last pair with num_pairs, and name the blocks' experts.
    CHUNKS: counts read at a time; 0 where one program has all pairs and counts them itself.
    """
    if PDL:
        gdc_wait()
    chunk = tl.program_id(0)
    experts = tl.arange(0, EXPERTS)
    pairs = chunk * CHUNK + tl.arange(0, CHUNK)
    if CHUNKS == 0:  # one program has all pairs: nobody counted for it
        totals = _chunk_counts(ids_ptr, pairs, num_pairs, num_experts, EXPERTS)
        before = tl.zeros((EXPERTS,), tl.int32)
    else:
        totals = tl.zeros((EXPERTS,), tl.int32)
        before = tl.zeros((EXPERTS,), tl.int32)
        for first in range(0, num_chunks, CHUNKS):
            chunks = first + tl.arange(0, CHUNKS)
            mask = (chunks[:, None] < num_chunks) & (experts[None, :] < num_experts)
            counts = tl.load(
                counts_ptr + chunks[:, None] * num_experts + experts[None, :], mask=mask, other=0
            )
            totals += tl.sum(counts, axis=0)
            before += tl.sum(tl.where(chunks[:, None] < chunk, counts, 0), axis=0)
    num_blocks = (totals + BLOCK_M - 1) // BLOCK_M
    end_blocks = tl.cumsum(num_blocks, axis=0)
    first_blocks = end_blocks - num_blocks

    ids = tl.load(ids_ptr + pairs, mask=pairs < num_pairs, other=-1)
    is_expert = (ids >= 0) & (ids < num_experts)
    rank = tl.zeros((CHUNK,), tl.int32)
    for first in range(0, CHUNK, STRIP):
        others = chunk * CHUNK + first + tl.arange(0, STRIP)
        other_ids = tl.load(ids_ptr + others, mask=others < num_pairs, other=-1)
        is_before = (other_ids[None, :] == ids[:, None]) & (others[None, :] < pairs[:, None])
        rank += tl.sum(is_before.to(tl.int32), axis=1)
    starts = tl.gather(first_blocks * BLOCK_M + before, tl.where(is_expert, ids, 0), axis=0)
    tl.store(sorted_pairs_ptr + starts + rank, pairs, mask=is_expert)

    # The blocks are dealt out to the programs, STRIP at a time.
    ends = first_blocks * BLOCK_M + totals
    for first in range(chunk * STRIP, max_blocks, tl.num_programs(0) * STRIP):
        blocks = first + tl.arange(0, STRIP)
        expert = tl.sum((end_blocks[None, :] <= blocks[:, None]).to(tl.int32), axis=1)
        is_used = expert < num_experts
        end = tl.where(is_used, tl.gather(ends, tl.where(is_used, expert, 0), axis=0), 0)
        is_block = blocks < max_blocks
        tl.store(expert_of_block_ptr + blocks, tl.where(is_used, expert, -1), mask=is_block)
        places = blocks[:, None] * BLOCK_M + tl.arange(0, PADDED_M)[None, :]
        is_free = (places >= end[:, None]) & is_block[:, None]
        is_free &= tl.arange(0, PADDED_M)[None, :] < BLOCK_M
        tl.store(sorted_pairs_ptr + places, tl.zeros_like(places) + num_pairs, mask=is_free)


def permute_tokens(expert_ids: Tensor, num_experts: int, block_m: int) -> TokenPermutation:
    """See `shoal.kernels.moe_routing`."""
    ids = expert_ids.contiguous()
    num_pairs = ids.numel()
    max_blocks = max_permuted_blocks(num_pairs, num_experts, block_m)
    sorted_pairs = ids.new_empty(max_blocks * block_m)
    expert_of_block = ids.new_empty(max_blocks)
    config = permute_config(num_pairs, num_experts)
    pdl = dependent_launch(ids.device)
    num_chunks = triton.cdiv(num_pairs, config.chunk)
    counts = ids
    if num_chunks > 1:
        counts = ids.new_empty(num_chunks, num_experts)
        _count_kernel[(num_chunks,)](
            ids,
            counts,
            num_pairs,
            num_experts,
            CHUNK=config.chunk,
            EXPERTS=config.experts,
            PDL=pdl,
            num_warps=config.num_warps,
            launch_pdl=pdl,
        )
    _place_kernel[(num_chunks,)](
        ids,
        counts,
        sorted_pairs,
        expert_of_block,
        num_pairs,
        num_experts,
        num_chunks,
        max_blocks,
        BLOCK_M=block_m,
        PADDED_M=triton.next_power_of_2(block_m),
        CHUNK=config.chunk,
        CHUNKS=config.chunks if num_chunks > 1 else 0,
        EXPERTS=config.experts,
        STRIP=config.strip,
        PDL=pdl,
        num_warps=config.num_warps,
        launch_pdl=pdl,
    )
    return TokenPermutation(
        sorted_pairs=sorted_pairs,
        expert_of_block=expert_of_block,
        block_m=block_m,
        num_pairs=num_pairs,
    )
