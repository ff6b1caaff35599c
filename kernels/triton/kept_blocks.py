"""Passes of one program over the blocks of its row that may hold a kept token.

Their ids lie in a list in ascending order, so every pass adds up in the same order and a row's
result depends on nothing but the row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .sampled_row import load_logits, weights_of


@triton.jit
def list_blocks(block_ids_ptr, is_listed, row, num_blocks, NUM_BLOCKS: tl.constexpr):
    """Write the ids of the listed blocks of a row; returns how many they are."""
    blocks = tl.arange(0, NUM_BLOCKS)
    row_start = row.to(tl.int64) * num_blocks
    places = tl.cumsum(is_listed.to(tl.int32), 0) - 1
    tl.store(block_ids_ptr + row_start + places, blocks, mask=is_listed)
    return tl.sum(is_listed.to(tl.int32), 0)


@triton.jit
def load_turn(
    row_ptr,
    ids_ptr,
    turn,
    num_listed,
    best,
    scale,
    vocab_size,
    is_broken,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Weights [TURN * 2, BLOCK // 2] of the blocks listed from place `turn` on, 0 past the last.

    In half blocks, which a warp reads at once (16 bytes a thread): it sums them up by itself.
    """
    halves = turn * 2 + tl.arange(0, TURN * 2)
    is_there = halves // 2 < num_listed
    ids = tl.load(ids_ptr + halves // 2, mask=is_there, other=0)
    first = tl.where(is_there, ids * BLOCK + halves % 2 * (BLOCK // 2), vocab_size)
    tokens = first[:, None] + tl.arange(0, BLOCK // 2)[None, :]
    return weights_of(load_logits(row_ptr, tokens, vocab_size, is_broken), best, scale)


@triton.jit
def places_of(is_taken, count, TURN: tl.constexpr):
    """Places, in order, for what is taken (0 or 1, [TURN * 2, ...]) after `count` others; and how
    many have been taken before each half block, and after the last."""
    taken_of_half = tl.sum(is_taken, 1)
    starts = count + tl.cumsum(taken_of_half, 0) - taken_of_half
    places = starts[:, None] + tl.cumsum(is_taken, 1) - 1
    return places, starts, count + tl.sum(taken_of_half, 0)


@triton.jit
def collect_candidates(
    row_ptr,
    ids_ptr,
    candidates_ptr,
    num_listed,
    low,
    best,
    scale,
    vocab_size,
    is_broken,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the weights whose bits are at least `low`; returns how many they are, or a number
    above MAX_CANDIDATES as soon as they are more than that."""
    count = num_listed * 0
    turn = num_listed * 0
    while (turn < num_listed) & (count <= MAX_CANDIDATES):
        weights = load_turn(
            row_ptr, ids_ptr, turn, num_listed, best, scale, vocab_size, is_broken, TURN, BLOCK
        )
        is_candidate = (weights.to(tl.int32, bitcast=True) >= low).to(tl.int32)
        places, _, count = places_of(is_candidate, count, TURN)
        is_stored = (is_candidate > 0) & (places < MAX_CANDIDATES)
        tl.store(candidates_ptr + places, weights, mask=is_stored)
        turn += TURN
    tl.debug_barrier()  # what some threads wrote others will read
    return count


@triton.jit
def kept_block_weights(
    row_ptr,
    ids_ptr,
    sums_ptr,
    num_listed,
    cutoff,
    best,
    scale,
    vocab_size,
    num_blocks,
    is_broken,
    NUM_BLOCKS: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """How much the tokens that reach the cutoff weigh in each block [NUM_BLOCKS].

    `sums_ptr`: the row's place in the sums, which this takes as scratch memory.
    """
    blocks = tl.arange(0, NUM_BLOCKS)
    tl.store(sums_ptr + blocks, tl.zeros([NUM_BLOCKS], tl.float32), mask=blocks < num_blocks)
    tl.debug_barrier()
    turn = num_listed * 0
    while turn < num_listed:
        weights = load_turn(
            row_ptr, ids_ptr, turn, num_listed, best, scale, vocab_size, is_broken, TURN, BLOCK
        )
        halves = tl.sum(tl.where(weights >= cutoff, weights, 0.0), 1)
        listed = turn + tl.arange(0, TURN)
        ids = tl.load(ids_ptr + listed, mask=listed < num_listed, other=0)
        kept = tl.sum(tl.reshape(halves, [TURN, 2]), 1)
        tl.store(sums_ptr + ids, kept, mask=listed < num_listed)
        turn += TURN
    tl.debug_barrier()
    return tl.load(sums_ptr + blocks, mask=blocks < num_blocks, other=0.0)
