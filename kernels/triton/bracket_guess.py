"""Where the cutoff of a row probably is, from a sample of its weights."""

from __future__ import annotations

import triton
import triton.language as tl

from .weight_cutoff import bits_of

_FINE = tl.constexpr(8192)
"""Steps of a guess, in bits: 0.1 % of a weight."""


@triton.jit
def measure(weights, by_count):
    """What a search adds up: tokens (1 each), or their weights."""
    return tl.where(by_count, (weights > 0).to(tl.float32), weights)


@triton.jit
def guess_bracket(sampled, factors, low, high, target, by_count):
    """Bits [first, last) between which the largest cutoff that reaches `target` probably is.

    sampled: weights, each of which stands for as many tokens as its factor says; those whose factor
    is 1 stand for themselves and add no error. The margin is three standard deviations: the error
    of a share q of a sum is that of a ratio, so with A above the cutoff and B below the variance is
    ((1 - q)^2 sum(A^2) + q^2 sum(B^2)) / sum^2.
    """
    fine = tl.maximum(tl.minimum((high - low) // 16, _FINE), 1)
    bits = bits_of(sampled)
    values = measure(sampled, by_count) * factors
    values = tl.where((bits >= low) & (bits < high), values, 0.0)
    first, last = low, high
    aim, margin = target, target * 0.0
    step = fine * 8  # the first search only tells how wide the margin is
    round = low * 0
    while round < 3:
        near, far = low, high
        while far - near > step:
            middle = near + (far - near) // 2
            reached = tl.sum(tl.where(bits >= middle, values, 0.0), 0)
            near = tl.where(reached >= aim, middle, near)
            far = tl.where(reached >= aim, far, middle)
        if round == 0:
            unsure = tl.where(factors == 1.0, 0.0, values)
            above = tl.where(bits >= near, unsure, 0.0)
            share = tl.sum(above, 0) / tl.maximum(tl.sum(unsure, 0), 1e-30)
            squares = tl.sum(above * above, 0)
            below = tl.maximum(tl.sum(unsure * unsure, 0) - squares, 0.0)
            variance = (1 - share) * (1 - share) * squares + share * share * below
            grain = tl.where(by_count, 1.0, near.to(tl.float32, bitcast=True))
            margin = 3.0 * tl.sqrt(variance) + grain * tl.max(factors, 0)
            aim = target + margin
            step = fine
        elif round == 1:
            first = near
            aim = target - margin
        else:
            last = tl.where(aim <= 0.0, high, tl.minimum(near + 2 * step, high))
        round += 1
    return first, last
