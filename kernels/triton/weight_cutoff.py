"""Cutoffs of top-k and top-p among weights that a program holds, by bisection of their bits.

Weights are in [0, 1], and positive floats are in the order of their bits, so the largest cutoff
that still keeps enough is found exactly in at most 30 steps, each a sum over all weights.
"""

from __future__ import annotations

import triton
import triton.language as tl

ONE_BITS = tl.constexpr(0x3F800000)


@triton.jit
def bits_of(weights):
    return weights.to(tl.int32, bitcast=True)


@triton.jit
def kth_largest(bits, k, low, STEP: tl.constexpr):
    """Bits of the k-th largest weight, or `low` where fewer than k reach it.

    STEP above 1 finds a lower bound that is less than STEP away, in fewer steps.
    """
    high = low * 0 + (ONE_BITS + 1)
    while high - low > STEP:
        middle = low + (high - low) // 2
        is_enough = tl.sum((bits >= middle).to(tl.int32), 0) >= k
        low = tl.where(is_enough, middle, low)
        high = tl.where(is_enough, high, middle)
    return low


@triton.jit
def mass_cutoff(weights, bits, needed, low):
    """Bits of the largest cutoff whose weights sum to `needed` (fp64), or `low` where none does."""
    high = low * 0 + (ONE_BITS + 1)
    weights = weights.to(tl.float64)
    while high - low > 1:
        middle = low + (high - low) // 2
        mass = tl.sum(tl.where(bits >= middle, weights, 0.0), 0)
        low = tl.where(mass >= needed, middle, low)
        high = tl.where(mass >= needed, high, middle)
    return low


@triton.jit
def mass_of_best(weights, bits, k, cutoff):
    """fp64 sum of the k largest weights, given the bits of the k-th: ties count only up to k."""
    is_above = bits > cutoff
    num_above = tl.sum(is_above.to(tl.int32), 0)
    num_kept = tl.minimum(tl.sum((bits >= cutoff).to(tl.int32), 0), k)
    above = tl.sum(tl.where(is_above, weights, 0.0).to(tl.float64), 0)
    return above + (num_kept - num_above) * cutoff.to(tl.float32, bitcast=True).to(tl.float64)


@triton.jit
def top_p_bound(sums, maxima, total, top_p, low, BLOCK: tl.constexpr):
    """Bits of a weight that the cutoff of top_p cannot be below.

    sums, maxima: weights of the blocks and of the best token of each. Tokens lighter than t are
    at most min(sum - max if max >= t, BLOCK * t) of a block; while that is less than what top_p may
    leave over, those from t up are enough. Bisected to 1 %; the margin is for rounding.
    """
    spare = total * (1.0 - top_p - 4e-6)
    high = low * 0 + (ONE_BITS + 1)
    while high - low > 65536:
        middle = low + (high - low) // 2
        cutoff = middle.to(tl.float32, bitcast=True)
        rest = tl.minimum(sums - tl.where(maxima >= cutoff, maxima, 0.0), BLOCK * cutoff)
        is_enough = tl.sum(tl.maximum(rest, 0.0), 0) <= spare
        low = tl.where(is_enough, middle, low)
        high = tl.where(is_enough, high, middle)
    return low
