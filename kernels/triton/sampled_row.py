"""What the programs that finish one row share: reading its tokens as weights, and the draw."""

from __future__ import annotations

import triton
import triton.language as tl

from .block_stats import HIGHEST
from .random_choice import gumbel_argmax, key_of, mix64


@triton.jit
def load_stats(
    maxima_ptr, sums_ptr, row, vocab_size, num_blocks, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr
):
    """Maxima and sums of a row's blocks, the best logit, and whether the row is broken.

    Where nothing is a number every token counts as the lowest one, so all weigh the same.
    """
    blocks = tl.arange(0, NUM_BLOCKS)
    inside = blocks < num_blocks
    at = row.to(tl.int64) * num_blocks + blocks
    maxima = tl.load(maxima_ptr + at, mask=inside, other=float("-inf"))
    sums = tl.load(sums_ptr + at, mask=inside, other=0.0)
    best = tl.max(maxima, 0)
    is_empty = best == float("-inf")
    is_broken = is_empty | (tl.min(sums, 0) < 0.0)
    size = tl.minimum(vocab_size - blocks * BLOCK, BLOCK).to(tl.float32)
    sums = tl.where(is_empty, tl.where(inside, size, 0.0), tl.abs(sums))
    maxima = tl.where(is_empty, tl.where(inside, -HIGHEST, maxima), maxima)
    best = tl.where(is_empty, -HIGHEST, best)
    return maxima, sums, best, is_broken


@triton.jit
def as_numbers(x, is_inside, is_broken):
    """Logits without NaN and +inf; where they are outside the vocabulary, or no number, they are
    -inf, or the lowest number in a broken row."""
    x = x.to(tl.float32)
    x = tl.where(x != x, float("-inf"), tl.minimum(x, HIGHEST))
    return tl.where(is_broken, tl.where(is_inside, tl.maximum(x, -HIGHEST), x), x)


@triton.jit
def load_logits(row_ptr, tokens, vocab_size, is_broken):
    """Logits of some tokens `as_numbers`."""
    inside = tokens < vocab_size
    x = tl.load(row_ptr + tokens, mask=inside, other=float("-inf"))
    return as_numbers(x, inside, is_broken)


@triton.jit
def scale_of(temperature):
    """What a difference of logits is multiplied by to be an exponent of 2.

    The reciprocal of a temperature below 1e-37 would be inf, and inf * 0 no weight.
    """
    return 1.4426950408889634 / tl.maximum(temperature, 1e-37)  # log2(e)


@triton.jit
def weights_of(x, best, scale):
    """exp((x - best) / temperature): the difference comes first, as inf - inf is no weight."""
    return tl.exp2((x - best) * scale)


@triton.jit
def draw(
    row_ptr,
    block_weights,
    cutoff,
    best,
    scale,
    seed,
    position,
    vocab_size,
    is_broken,
    NUM_BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block by its weight, then a token of it by its weight, of those that reach the cutoff."""
    key = key_of(seed, position)
    block = gumbel_argmax(block_weights, key, tl.arange(0, NUM_BLOCKS))
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    weights = weights_of(load_logits(row_ptr, tokens, vocab_size, is_broken), best, scale)
    weights = tl.where(weights >= cutoff, weights, 0.0)
    return block * BLOCK + gumbel_argmax(weights, mix64(key), tokens)
