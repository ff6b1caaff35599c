"""Sampling in one pass over the logits and a look at the few blocks that matter.

1. `block_stats` reads all logits once: the best token and the weight of every block of 256.
2. A program a row: the best token of a greedy row is in the first block that has the best maximum.
   A row that filters nothing draws a block from their weights, and a token from that block.
   A filtered row first bounds its cutoff from below by what the blocks tell (the k-th best block's
   maximum for top_k; for top_p what lighter tokens can weigh at most), reads the blocks that reach
   the bound, finds the exact cutoff among the weights that do, weighs what is kept, and draws.
3. Rows where too many weights reach the bound to be held at once (a flat distribution with top_p)
   are left to `wide_rows`.

The pivots of FlashInfer's sampling kernels are the idea of searching a cutoff instead of sorting;
bounds by the maxima of blocks are those of block-max indexes (Ding and Suel, 2011).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.sample import BLOCK, sample_config
from .block_stats import block_stats
from .kept_blocks import collect_candidates, kept_block_weights, list_blocks
from .sampled_row import draw, load_logits, load_stats, scale_of, weights_of
from .weight_cutoff import (
    bits_of,
    kth_largest,
    mass_cutoff,
    mass_of_best,
    top_p_bound,
)
from .wide_rows import sample_wide_rows

SMALLEST_BITS = tl.constexpr(0x00800000)
"""Bits of the smallest weight that counts, 1e-38: those below may be 0 as well."""


@triton.jit
def _sample_kernel(
    logits_ptr,
    maxima_ptr,
    sums_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    seeds_ptr,
    positions_ptr,
    token_ids_ptr,
    broken_ptr,
    block_ids_ptr,
    candidates_ptr,
    wide_ptr,
    stride_row,
    stride_candidates,
    vocab_size,
    num_blocks,
    IS_RANDOM: tl.constexpr,
    IS_FILTERED: tl.constexpr,
    NUM_BLOCKS: tl.constexpr,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The token of one row; or, of a wide one, the bits of its bound in `wide_ptr`."""
    row = tl.program_id(0)
    row_ptr = logits_ptr + row.to(tl.int64) * stride_row
    maxima, sums, best, is_broken = load_stats(
        maxima_ptr, sums_ptr, row, vocab_size, num_blocks, NUM_BLOCKS, BLOCK
    )
    tl.store(broken_ptr + row, is_broken)
    temperature = tl.load(temperature_ptr + row) if IS_RANDOM else 0.0
    is_wide = 0
    if temperature == 0.0:
        blocks = tl.arange(0, NUM_BLOCKS)
        block = tl.min(tl.where(maxima == best, blocks, NUM_BLOCKS), 0)
        tokens = block * BLOCK + tl.arange(0, BLOCK)
        x = load_logits(row_ptr, tokens, vocab_size, is_broken)
        token = tl.min(tl.where((x == best) & (tokens < vocab_size), tokens, vocab_size), 0)
        tl.store(token_ids_ptr + row, token.to(tl.int64))
    else:
        scale = scale_of(temperature)
        best_weights = weights_of(maxima, best, scale)
        block_weights = sums * best_weights
        cutoff = 0.0
        if IS_FILTERED:
            top_k = tl.load(top_k_ptr + row).to(tl.int32)
            top_p = tl.load(top_p_ptr + row)
            min_p = tl.load(min_p_ptr + row)
            has_top_k = (top_k > 0) & (top_k < vocab_size)
            if has_top_k | (top_p < 1.0) | (min_p > 0.0):
                total = tl.sum(block_weights.to(tl.float64), 0)
                low = tl.maximum(bits_of(min_p), SMALLEST_BITS)
                best_bits = bits_of(best_weights)
                if has_top_k:
                    low = kth_largest(best_bits, top_k, low, 65536)
                elif min_p == 0.0:
                    low = top_p_bound(block_weights, best_weights, total, top_p, low, BLOCK)
                row_start = row.to(tl.int64) * num_blocks
                ids_ptr = block_ids_ptr + row_start
                num_listed = list_blocks(
                    block_ids_ptr, best_bits >= low, row, num_blocks, NUM_BLOCKS
                )
                tl.debug_barrier()
                if has_top_k | (top_p < 1.0):
                    row_candidates_ptr = candidates_ptr + row.to(tl.int64) * stride_candidates
                    row_candidates_ptr = row_candidates_ptr.to(tl.pointer_type(tl.float32))
                    count = collect_candidates(
                        row_ptr, ids_ptr, row_candidates_ptr, num_listed, low,
                        best, scale, vocab_size, is_broken, MAX_CANDIDATES, TURN, BLOCK,
                    )  # fmt: skip
                    if count > MAX_CANDIDATES:
                        is_wide = 1
                        tl.store(wide_ptr + row, low)
                    else:
                        places = tl.arange(0, MAX_CANDIDATES)
                        weights = tl.load(
                            row_candidates_ptr + places, mask=places < count, other=0.0
                        )
                        bits = bits_of(weights)
                        if has_top_k:
                            low = kth_largest(bits, top_k, low, 1)
                            total = mass_of_best(weights, bits, top_k, low)
                        elif min_p > 0.0:
                            total = tl.sum(weights.to(tl.float64), 0)
                        if top_p < 1.0:
                            low = mass_cutoff(weights, bits, top_p.to(tl.float64) * total, low)
                if is_wide == 0:
                    cutoff = low.to(tl.float32, bitcast=True)
                    block_weights = kept_block_weights(
                        row_ptr, ids_ptr, sums_ptr + row_start, num_listed, cutoff, best,
                        scale, vocab_size, num_blocks, is_broken, NUM_BLOCKS, TURN, BLOCK,
                    )  # fmt: skip
        if is_wide == 0:
            token = draw(
                row_ptr, block_weights, cutoff, best, scale, tl.load(seeds_ptr + row),
                tl.load(positions_ptr + row), vocab_size, is_broken, NUM_BLOCKS, BLOCK,
            )  # fmt: skip
            tl.store(token_ids_ptr + row, token.to(tl.int64))
    if IS_FILTERED and is_wide == 0:
        tl.store(wide_ptr + row, 0)


def sample_tokens_triton(
    logits: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    positions: Tensor,
    broken: Tensor,
    all_greedy: bool,
    none_filtered: bool,
) -> Tensor:
    """Launch the passes: two, and a third when a row may be filtered."""
    num_rows, vocab_size = logits.shape
    device = logits.device
    token_ids = torch.empty(num_rows, dtype=torch.int64, device=device)
    if num_rows == 0:
        return token_ids
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    config = sample_config(vocab_size)
    maxima, sums = block_stats(logits, None if all_greedy else temperature, config)
    num_blocks = maxima.shape[1]
    is_filtered = not (all_greedy or none_filtered)
    block_ids = starts = candidates = wide = None
    if is_filtered:
        block_ids = torch.empty(num_rows, num_blocks, dtype=torch.int32, device=device)
        starts = torch.empty_like(block_ids)
        candidates = torch.empty(
            num_rows, config.max_wide_candidates, dtype=torch.float64, device=device
        )
        wide = torch.empty(num_rows, dtype=torch.int32, device=device)
    _sample_kernel[(num_rows,)](
        logits,
        maxima,
        sums,
        temperature,
        top_k,
        top_p,
        min_p,
        seeds,
        positions,
        token_ids,
        broken,
        block_ids,
        candidates,
        wide,
        logits.stride(0),
        config.max_wide_candidates,
        vocab_size,
        num_blocks,
        IS_RANDOM=not all_greedy,
        IS_FILTERED=is_filtered,
        NUM_BLOCKS=config.num_blocks_padded,
        MAX_CANDIDATES=config.max_candidates,
        TURN=config.blocks_per_turn,
        BLOCK=BLOCK,
        num_warps=config.row_warps,
    )
    if is_filtered and vocab_size > config.max_candidates:  # no row of a smaller one is wide
        sample_wide_rows(
            logits,
            maxima,
            sums,
            (temperature, top_k, top_p, min_p, seeds, positions),
            (starts, candidates, wide),
            token_ids,
            config,
        )
    return token_ids
