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
def load_logits(row_ptr, tokens, vocab_size, is_broken):
    """Logits as numbers: what is none, or outside the vocabulary, is -inf, or the lowest number
    in a broken row."""
    inside = tokens < vocab_size
    x = tl.load(row_ptr + tokens, mask=inside, other=float("-inf")).to(tl.float32)
    x = tl.where(x != x, float("-inf"), tl.minimum(x, HIGHEST))
    return tl.where(is_broken, tl.where(inside, tl.maximum(x, -HIGHEST), x), x)


@triton.jit
def weights_of(x, best, temperature):
    """exp((x - best) / temperature), in the order of the twin: never inf - inf."""
    return tl.exp(tl.div_rn(x - best, temperature))


@triton.jit
def draw(
    row_ptr,
    block_weights,
    cutoff,
    best,
    temperature,
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
    weights = weights_of(load_logits(row_ptr, tokens, vocab_size, is_broken), best, temperature)
    weights = tl.where(weights >= cutoff, weights, 0.0)
    return block * BLOCK + gumbel_argmax(weights, mix64(key), tokens)
