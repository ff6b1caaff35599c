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
    temperature,
    vocab_size,
    is_broken,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Weights [TURN, BLOCK] of the blocks listed from place `turn` on, 0 past the last; and ids."""
    places = turn + tl.arange(0, TURN)
    is_there = places < num_listed
    ids = tl.load(ids_ptr + places, mask=is_there, other=0)
    tokens = tl.where(is_there, ids * BLOCK, vocab_size)[:, None] + tl.arange(0, BLOCK)[None, :]
    x = load_logits(row_ptr, tokens, vocab_size, is_broken)
    return weights_of(x, best, temperature), ids


@triton.jit
def collect_candidates(
    row_ptr,
    ids_ptr,
    candidates_ptr,
    num_listed,
    low,
    best,
    temperature,
    vocab_size,
    is_broken,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the weights whose bits are at least `low`, as fp64; returns how many they are, or a
    number above MAX_CANDIDATES as soon as they are more than that."""
    count = num_listed * 0
    turn = num_listed * 0
    while (turn < num_listed) & (count <= MAX_CANDIDATES):
        weights, _ = load_turn(
            row_ptr, ids_ptr, turn, num_listed, best, temperature, vocab_size, is_broken,
            TURN, BLOCK,
        )  # fmt: skip
        weights = tl.reshape(weights, [TURN * BLOCK])
        bits = weights.to(tl.int32, bitcast=True)
        is_candidate = bits >= low
        places = count + tl.cumsum(is_candidate.to(tl.int32), 0) - 1
        tl.store(
            candidates_ptr + places,
            weights.to(tl.float64),
            mask=is_candidate & (places < MAX_CANDIDATES),
        )
        count += tl.sum(is_candidate.to(tl.int32), 0)
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
    temperature,
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
        weights, ids = load_turn(
            row_ptr, ids_ptr, turn, num_listed, best, temperature, vocab_size, is_broken,
            TURN, BLOCK,
        )  # fmt: skip
        kept = tl.sum(tl.where(weights >= cutoff, weights, 0.0), 1)
        tl.store(sums_ptr + ids, kept, mask=turn + tl.arange(0, TURN) < num_listed)
        turn += TURN
    tl.debug_barrier()
    return tl.load(sums_ptr + blocks, mask=blocks < num_blocks, other=0.0)
