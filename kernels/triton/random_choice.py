"""The draw of `kernels/random_choice.py` inside a Triton program: same bits, same tokens."""

from __future__ import annotations

import triton
import triton.language as tl

_GAMMA = tl.constexpr(0x9E3779B97F4A7C15)
_MIX_1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX_2 = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def mix64(x):
    """The finaliser of splitmix64 on uint64, whose shifts and products are those of the paper."""
    x = (x ^ (x >> 30)) * _MIX_1
    x = (x ^ (x >> 27)) * _MIX_2
    return x ^ (x >> 31)


@triton.jit
def key_of(seed, position):
    """The key of a row's choice of a block; mix64 of it is that of the choice inside the block."""
    return mix64(mix64(seed.to(tl.uint64)) + (position + 1).to(tl.uint64) * _GAMMA)


@triton.jit
def gumbel_argmax(weights, key, counters):
    """argmax of log(weight) + Gumbel noise hashed from (key, counter), as an index into `weights`.

    In fp64, as the noise has 53 bits; weight 0 never wins.
    """
    bits = mix64(key + (counters + 1).to(tl.uint64) * _GAMMA) >> 11
    uniform = (bits.to(tl.float64) + 0.5) * 1.1102230246251565e-16  # 2^-53
    likely = tl.where(weights > 0, weights, 1.0).to(tl.float64)
    scores = tl.log(likely) - tl.log(-tl.log(uniform))
    return tl.argmax(tl.where(weights > 0, scores, float("-inf")), 0)
