"""Rows where more weights may be kept than a program holds: cutoffs found in several passes.

Each pass over the row's listed blocks weighs what reaches each of 8 cutoffs, evenly spaced in the
bits of the bracket, and the bracket shrinks to an eighth. When few enough weights are left inside,
they are collected and bisected as for any other row.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..launch.sample import BLOCK, SampleConfig
from .kept_blocks import collect_candidates, kept_block_weights, load_turn
from .sampled_row import draw, load_stats, weights_of
from .weight_cutoff import ONE_BITS, bits_of

CUTOFFS = 8


@triton.jit
def _measure(
    row_ptr,
    ids_ptr,
    num_listed,
    cutoffs,
    best,
    temperature,
    vocab_size,
    is_broken,
    CUTOFFS: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """How many weights reach each of the cutoffs (bits, [CUTOFFS]), and what they weigh together
    (fp64)."""
    counts = tl.zeros([CUTOFFS, TURN * BLOCK], tl.int32)
    masses = tl.zeros([CUTOFFS, TURN * BLOCK], tl.float32)
    turn = num_listed * 0
    while turn < num_listed:
        weights, _ = load_turn(
            row_ptr, ids_ptr, turn, num_listed, best, temperature, vocab_size, is_broken,
            TURN, BLOCK,
        )  # fmt: skip
        weights = tl.reshape(weights, [1, TURN * BLOCK])
        reaches = bits_of(weights) >= cutoffs[:, None]
        counts += reaches.to(tl.int32)
        masses += tl.where(reaches, weights, 0.0)
        turn += TURN
    return tl.sum(counts, 1), tl.sum(masses.to(tl.float64), 1)


@triton.jit
def _at(values, place, CUTOFFS: tl.constexpr):
    """values[place] of a vector; 0 past its end."""
    return tl.sum(tl.where(tl.arange(0, CUTOFFS) == place, values, 0), 0)


@triton.jit
def _largest_cutoff(
    row_ptr,
    ids_ptr,
    candidates_ptr,
    num_listed,
    target,
    low,
    best,
    temperature,
    vocab_size,
    is_broken,
    BY_COUNT: tl.constexpr,
    CUTOFFS: tl.constexpr,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Bits of the largest cutoff that `target` tokens reach, or (not BY_COUNT) that tokens of that
    mass (fp64) reach; `low` where none does."""
    high = low * 0 + (ONE_BITS + 1)
    above = target * 0.0  # what reaches `high`: tokens or mass
    num_above = low * 0
    num_inside = low * 0 + (MAX_CANDIDATES + 1)
    while (num_inside > MAX_CANDIDATES) & (high - low > 1):
        step = tl.cdiv(high - low, CUTOFFS)
        cutoffs = low + tl.arange(0, CUTOFFS) * step
        counts, masses = _measure(
            row_ptr, ids_ptr, num_listed, cutoffs, best, temperature, vocab_size, is_broken,
            CUTOFFS, TURN, BLOCK,
        )  # fmt: skip
        if BY_COUNT:
            reached = counts.to(tl.float64)
        else:
            reached = masses
        # `low` itself counts as reached, and no cutoff from `high` up is.
        is_enough = (reached >= target) & (cutoffs < high)
        last = tl.maximum(tl.sum(is_enough.to(tl.int32), 0), 1) - 1
        next_low = low + last * step
        num_from_low = _at(counts, last, CUTOFFS)
        if (last + 1 < CUTOFFS) & (next_low + step < high):
            high = next_low + step
            above = _at(reached, last + 1, CUTOFFS)
            num_above = _at(counts, last + 1, CUTOFFS)
        low = next_low
        num_inside = num_from_low - num_above
    if high - low > 1:
        count = collect_candidates(
            row_ptr, ids_ptr, candidates_ptr, num_listed, low, high, best, temperature,
            vocab_size, is_broken, MAX_CANDIDATES, TURN, BLOCK,
        )  # fmt: skip
        places = tl.arange(0, MAX_CANDIDATES)
        weights = tl.load(candidates_ptr + places, mask=places < count, other=0.0)
        bits = bits_of(weights)
        while high - low > 1:
            middle = low + (high - low) // 2
            if BY_COUNT:
                inside = tl.sum((bits >= middle).to(tl.float64), 0)
            else:
                inside = tl.sum(tl.where(bits >= middle, weights, 0.0).to(tl.float64), 0)
            is_reached = above + inside >= target
            low = tl.where(is_reached, middle, low)
            high = tl.where(is_reached, high, middle)
    return low


@triton.jit
def _sample_wide_rows_kernel(
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
    block_ids_ptr,
    candidates_ptr,
    wide_ptr,
    stride_row,
    vocab_size,
    num_blocks,
    NUM_BLOCKS: tl.constexpr,
    CUTOFFS: tl.constexpr,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The token of one row, if `sample` left it over: bits of its bound are in `wide_ptr`."""
    row = tl.program_id(0)
    low = tl.load(wide_ptr + row * 2)
    if low == 0:
        return
    num_listed = tl.load(wide_ptr + row * 2 + 1)
    row_ptr = logits_ptr + row.to(tl.int64) * stride_row
    row_start = row.to(tl.int64) * num_blocks
    ids_ptr = block_ids_ptr + row_start
    row_candidates_ptr = candidates_ptr + row.to(tl.int64) * MAX_CANDIDATES
    temperature = tl.load(temperature_ptr + row)
    top_k = tl.load(top_k_ptr + row).to(tl.int32)
    top_p = tl.load(top_p_ptr + row)
    maxima, sums, best, is_broken = load_stats(
        maxima_ptr, sums_ptr, row, vocab_size, num_blocks, NUM_BLOCKS, BLOCK
    )
    total = tl.sum((sums * weights_of(maxima, best, temperature)).to(tl.float64), 0)
    has_top_k = (top_k > 0) & (top_k < vocab_size)
    if has_top_k:
        low = _largest_cutoff(
            row_ptr, ids_ptr, row_candidates_ptr, num_listed, top_k.to(tl.float64), low, best,
            temperature, vocab_size, is_broken, True, CUTOFFS, MAX_CANDIDATES, TURN, BLOCK,
        )  # fmt: skip
    if top_p < 1.0:
        if has_top_k | (tl.load(min_p_ptr + row) > 0.0):
            # What is left: all from the cutoff up, where ties count only up to k.
            counts, masses = _measure(
                row_ptr, ids_ptr, num_listed, low + tl.minimum(tl.arange(0, 2), 1), best,
                temperature, vocab_size, is_broken, 2, TURN, BLOCK,
            )  # fmt: skip
            total = _at(masses, 0, 2)
            if has_top_k:
                num_tied = tl.minimum(_at(counts, 0, 2), top_k) - _at(counts, 1, 2)
                tied = low.to(tl.float32, bitcast=True).to(tl.float64)
                total = _at(masses, 1, 2) + num_tied * tied
        low = _largest_cutoff(
            row_ptr, ids_ptr, row_candidates_ptr, num_listed, top_p.to(tl.float64) * total, low,
            best, temperature, vocab_size, is_broken, False, CUTOFFS, MAX_CANDIDATES, TURN, BLOCK,
        )  # fmt: skip
    cutoff = low.to(tl.float32, bitcast=True)
    block_weights = kept_block_weights(
        row_ptr, ids_ptr, sums_ptr + row_start, num_listed, cutoff, best, temperature,
        vocab_size, num_blocks, is_broken, NUM_BLOCKS, TURN, BLOCK,
    )  # fmt: skip
    token = draw(
        row_ptr, block_weights, cutoff, best, temperature, tl.load(seeds_ptr + row),
        tl.load(positions_ptr + row), vocab_size, is_broken, NUM_BLOCKS, BLOCK,
    )  # fmt: skip
    tl.store(token_ids_ptr + row, token.to(tl.int64))


def sample_wide_rows(
    logits: Tensor,
    maxima: Tensor,
    sums: Tensor,
    columns: tuple[Tensor, ...],
    scratch: tuple[Tensor | None, ...],
    token_ids: Tensor,
    config: SampleConfig,
) -> None:
    """columns: temperature, top_k, top_p, min_p, seeds, positions; scratch: block ids, candidates,
    and which rows are wide. Sets the token ids of those."""
    num_rows, vocab_size = logits.shape
    _sample_wide_rows_kernel[(num_rows,)](
        logits,
        maxima,
        sums,
        *columns,
        token_ids,
        *scratch,
        logits.stride(0),
        vocab_size,
        maxima.shape[1],
        NUM_BLOCKS=config.num_blocks_padded,
        CUTOFFS=CUTOFFS,
        MAX_CANDIDATES=config.max_candidates,
        TURN=config.blocks_per_turn,
        BLOCK=BLOCK,
        num_warps=config.row_warps,
    )
