"""Rows of which more tokens may be kept than a program holds: a flat distribution, a large top_k.

Their cutoff is guessed from a sample, a few tokens of every block, as a bracket of three standard
deviations. One pass over the row then weighs what is above the bracket, block by block,
and collects what is inside, and the exact cutoff is found among that. Where the guess was wrong,
or the bracket holds too much, the next guess starts from what the pass has shown; every pass
narrows what is left, so the result is exact whatever the sample was like.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..launch.sample import BLOCK, SampleConfig
from .bracket_guess import guess_bracket, measure
from .kept_blocks import places_of
from .sampled_row import (
    as_numbers,
    draw,
    load_logits,
    load_stats,
    scale_of,
    weights_of,
)
from .weight_cutoff import ONE_BITS, bits_of


@triton.jit
def _load_halves(row_ptr, turn, vocab_size, TURN: tl.constexpr, BLOCK: tl.constexpr):
    """Logits [TURN * 2, BLOCK // 2] of the blocks from `turn` on, as they are."""
    halves = turn * 2 + tl.arange(0, TURN * 2)
    tokens = halves[:, None] * (BLOCK // 2) + tl.arange(0, BLOCK // 2)[None, :]
    return tl.load(row_ptr + tokens, mask=tokens < vocab_size, other=float("-inf")), tokens


@triton.jit
def _weigh(
    row_ptr,
    starts_ptr,
    sums_ptr,
    candidates_ptr,
    num_blocks,
    low,
    first,
    last,
    best,
    scale,
    vocab_size,
    is_broken,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One pass: what is above the bracket [first, last) of bits, and what is inside.

    Each block's weight above goes to `sums_ptr`; the weights inside, the first MAX_CANDIDATES of
    them, to `candidates_ptr` in the order of tokens, and where those of each block start to
    `starts_ptr`. Returns how many are inside and above, and the masses (fp64) of both, and of all
    from `low` up. The logits of a turn are read while those before are weighed.
    """
    num_inside = num_blocks * 0
    num_above = tl.zeros([TURN * 2, BLOCK // 2], tl.int32)
    mass_inside = tl.zeros([TURN * 2, BLOCK // 2], tl.float32)
    mass_above = tl.zeros([TURN], tl.float64)
    mass = tl.zeros([TURN * 2, BLOCK // 2], tl.float32)
    turn = num_blocks * 0
    raw, tokens = _load_halves(row_ptr, turn, vocab_size, TURN, BLOCK)
    while turn < num_blocks:
        next_raw, next_tokens = _load_halves(row_ptr, turn + TURN, vocab_size, TURN, BLOCK)
        x = as_numbers(raw, tokens < vocab_size, is_broken)
        weights = weights_of(x, best, scale)
        bits = bits_of(weights)
        is_above = bits >= last
        is_inside = ((bits >= first) & (bits < last)).to(tl.int32)
        places, starts, num_inside = places_of(is_inside, num_inside, TURN)
        is_stored = (is_inside > 0) & (places < MAX_CANDIDATES)
        tl.store(candidates_ptr + places, weights, mask=is_stored)
        above_of_half = tl.sum(tl.where(is_above, weights, 0.0), 1)
        above = tl.sum(tl.reshape(above_of_half, [TURN, 2]), 1)
        start = tl.min(tl.reshape(starts, [TURN, 2]), 1)
        blocks = turn + tl.arange(0, TURN)
        tl.store(starts_ptr + blocks, start, mask=blocks < num_blocks)
        tl.store(sums_ptr + blocks, above, mask=blocks < num_blocks)
        num_above += is_above.to(tl.int32)
        mass_above += above.to(tl.float64)
        mass_inside += tl.where(is_inside > 0, weights, 0.0)
        mass += tl.where(bits >= low, weights, 0.0)
        raw, tokens = next_raw, next_tokens
        turn += TURN
    tl.debug_barrier()  # what some threads wrote others will read
    return (
        num_inside,
        tl.sum(tl.sum(num_above, 1), 0),
        tl.sum(tl.sum(mass_inside, 1).to(tl.float64), 0),
        tl.sum(mass_above, 0),
        tl.sum(tl.sum(mass, 1).to(tl.float64), 0),
    )


@triton.jit
def _load_candidates(candidates_ptr, num_inside, MAX_CANDIDATES: tl.constexpr):
    places = tl.arange(0, MAX_CANDIDATES)
    return tl.load(candidates_ptr + places, mask=places < num_inside, other=0.0)


@triton.jit
def _find_cutoff(
    row_ptr,
    starts_ptr,
    sums_ptr,
    candidates_ptr,
    num_blocks,
    sampled,
    factors,
    low,
    share,
    total,
    is_total_known,
    by_count,
    best,
    scale,
    vocab_size,
    is_broken,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Bits of the largest cutoff that `share` of `total` (fp64) reaches, or `low` where none does.

    by_count: the total is of tokens, else of their mass; where that is not known, it is of all from
    `low` up, and its value here an estimate. Returns with the cutoff how many the last pass found
    inside its bracket, and the count and the mass of what the cutoff keeps.
    """
    bottom = low
    high = low * 0 + (ONE_BITS + 1)
    first, last = low, high
    base = total * 0.0  # what is known to be above `high`
    num_inside, num_above = low * 0, low * 0
    mass_above = total * 0.0
    must_guess, is_found, num_passes = low * 0 + 1, low * 0, low * 0
    while is_found == 0:
        target = share * total
        if must_guess == 1:
            aim = (target - base).to(tl.float32)
            first, last = guess_bracket(sampled, factors, low, high, aim, by_count)
            is_no_narrower = (num_passes > 0) & (last - first >= high - low)
            first = tl.where(is_no_narrower, low + (high - low) // 2, first)
            must_guess = low * 0
        num_passes += 1
        num_inside, num_above, mass_inside, mass_above, mass = _weigh(
            row_ptr, starts_ptr, sums_ptr, candidates_ptr, num_blocks, bottom, first, last, best,
            scale, vocab_size, is_broken, MAX_CANDIDATES, TURN, BLOCK,
        )  # fmt: skip
        total = tl.where(is_total_known, total, mass)
        target = share * total
        above = tl.where(by_count, num_above.to(tl.float64), mass_above)
        inside = tl.where(by_count, num_inside.to(tl.float64), mass_inside)
        width = last - first
        if width == 0:  # all that ties with the one value that was left has been weighed
            is_found = low * 0 + 1
        elif (above >= target) & (last < high):
            low = last  # the cutoff is further up
            first = low
            last = tl.minimum(low + 4 * width, high)
        elif (above + inside < target) & (first > low):
            high = first  # further down
            base = above + inside
            first = tl.maximum(high - 4 * width, low)
            last = high
        else:
            low, high, base = first, last, above
            if num_inside <= MAX_CANDIDATES:
                is_found = low * 0 + 1
            elif width == 1:
                last = first
            else:
                # Those that were collected are a sample of what is inside.
                sampled = _load_candidates(candidates_ptr, num_inside, MAX_CANDIDATES)
                factors = factors * 0.0 + num_inside.to(tl.float32) / MAX_CANDIDATES
                must_guess = low * 0 + 1
    weights = _load_candidates(candidates_ptr, num_inside, MAX_CANDIDATES)
    bits, values = bits_of(weights), measure(weights, by_count).to(tl.float64)
    while high - low > 1:
        middle = low + (high - low) // 2
        inside = tl.sum(tl.where(bits >= middle, values, 0.0), 0)
        is_reached = base + inside >= share * total
        low = tl.where(is_reached, middle, low)
        high = tl.where(is_reached, high, middle)
    num_above += tl.sum((bits >= low).to(tl.int32), 0)
    mass_above += tl.sum(tl.where(bits >= low, weights, 0.0).to(tl.float64), 0)
    return low, num_inside, num_above, mass_above


@triton.jit
def _kept_block_weights(
    starts_ptr,
    sums_ptr,
    candidates_ptr,
    prefix_ptr,
    num_blocks,
    num_inside,
    cutoff,
    NUM_BLOCKS: tl.constexpr,
    MAX_CANDIDATES: tl.constexpr,
):
    """How much the tokens that reach the cutoff (bits) weigh in each block [NUM_BLOCKS]: what is
    above the bracket, and of the candidates those that are kept.

    They lie in the order of blocks, so those of a block are a difference of two prefix sums, which
    take their memory.
    """
    weights = _load_candidates(candidates_ptr, num_inside, MAX_CANDIDATES)
    kept = tl.where(bits_of(weights) >= cutoff, weights, 0.0).to(tl.float64)
    tl.debug_barrier()
    tl.store(prefix_ptr + tl.arange(0, MAX_CANDIDATES), tl.cumsum(kept, 0))
    tl.debug_barrier()
    blocks = tl.arange(0, NUM_BLOCKS)
    is_there = blocks < num_blocks
    start = tl.load(starts_ptr + blocks, mask=is_there, other=0)
    end = tl.load(starts_ptr + blocks + 1, mask=blocks + 1 < num_blocks, other=0)
    end = tl.where(blocks + 1 < num_blocks, end, num_inside)
    before = tl.load(prefix_ptr + start - 1, mask=is_there & (start > 0), other=0.0)
    until = tl.load(prefix_ptr + end - 1, mask=is_there & (end > 0), other=0.0)
    above = tl.load(sums_ptr + blocks, mask=is_there, other=0.0)
    return above + (until - before).to(tl.float32)


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
    starts_ptr,
    candidates_ptr,
    wide_ptr,
    stride_row,
    vocab_size,
    num_blocks,
    NUM_BLOCKS: tl.constexpr,
    SAMPLES: tl.constexpr,
    MAX_CANDIDATES: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The token of one row, if `sample` left it over: bits of its bound are in `wide_ptr`."""
    row = tl.program_id(0)
    low = tl.load(wide_ptr + row)
    if low == 0:
        return
    row_ptr = logits_ptr + row.to(tl.int64) * stride_row
    row_start = row.to(tl.int64) * num_blocks
    starts_ptr += row_start
    prefix_ptr = candidates_ptr + row.to(tl.int64) * MAX_CANDIDATES
    candidates_ptr = prefix_ptr.to(tl.pointer_type(tl.float32))
    scale = scale_of(tl.load(temperature_ptr + row))
    top_k = tl.load(top_k_ptr + row).to(tl.int32)
    top_p = tl.load(top_p_ptr + row)
    maxima, sums, best, is_broken = load_stats(
        maxima_ptr, sums_ptr, row, vocab_size, num_blocks, NUM_BLOCKS, BLOCK
    )
    sums_ptr += row_start
    blocks = tl.arange(0, NUM_BLOCKS)
    best_weights = weights_of(maxima, best, scale)
    rest = tl.sum(sums * best_weights - best_weights, 0)
    total = tl.sum((sums * best_weights).to(tl.float64), 0)
    tl.debug_barrier()  # before the sums are overwritten

    # A stretch of every block, here and there. Its first place is given to the best of the block,
    # which is known, and stands for itself.
    columns = tl.arange(0, SAMPLES)[None, :]
    places = (blocks * 7 % (BLOCK // SAMPLES) * SAMPLES)[:, None] + columns
    x = load_logits(row_ptr, blocks[:, None] * BLOCK + places, vocab_size, is_broken)
    is_best = columns == 0
    sampled = tl.where(x == maxima[:, None], 0.0, weights_of(x, best, scale))
    sampled = tl.where(is_best, best_weights[:, None], sampled)
    is_best = tl.reshape(tl.broadcast_to(is_best, [NUM_BLOCKS, SAMPLES]), [NUM_BLOCKS * SAMPLES])
    sampled = tl.reshape(sampled, [NUM_BLOCKS * SAMPLES])
    ratio = rest / tl.maximum(tl.sum(tl.where(is_best, 0.0, sampled), 0), 1e-30)

    # Two searches, one after the other: the cutoff of top_k, then that of top_p above it.
    has_top_k = (top_k > 0) & (top_k < vocab_size)
    search = tl.where(has_top_k, 0, 1)
    end = tl.where(top_p < 1.0, 2, 1)
    is_total_known = tl.load(min_p_ptr + row) == 0.0
    num_inside = low * 0
    while search < end:
        by_count = search == 0
        share = tl.where(by_count, 1.0, top_p).to(tl.float64)
        factors = tl.where(is_best, 1.0, tl.where(by_count, BLOCK / (SAMPLES - 1), ratio))
        low, num_inside, num_kept, mass = _find_cutoff(
            row_ptr, starts_ptr, sums_ptr, candidates_ptr, num_blocks, sampled, factors, low, share,
            tl.where(by_count, top_k.to(tl.float64), total), by_count | is_total_known, by_count,
            best, scale, vocab_size, is_broken, MAX_CANDIDATES, TURN, BLOCK,
        )  # fmt: skip
        # What top_k leaves weighs this much, as ties count only up to k.
        num_spare = tl.maximum(num_kept - top_k, 0)
        total = mass - num_spare * low.to(tl.float32, bitcast=True).to(tl.float64)
        is_total_known = low > 0
        search += 1
    cutoff = low.to(tl.float32, bitcast=True)
    block_weights = _kept_block_weights(
        starts_ptr, sums_ptr, candidates_ptr, prefix_ptr, num_blocks, num_inside, low, NUM_BLOCKS,
        MAX_CANDIDATES,
    )  # fmt: skip
    token = draw(
        row_ptr, block_weights, cutoff, best, scale, tl.load(seeds_ptr + row),
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
    """columns: temperature, top_k, top_p, min_p, seeds, positions; scratch: starts, candidates,
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
        SAMPLES=config.samples_per_block,
        MAX_CANDIDATES=config.max_wide_candidates,
        TURN=config.wide_blocks_per_turn,
        BLOCK=BLOCK,
        num_warps=config.wide_warps,
    )
