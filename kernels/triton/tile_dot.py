"""One step of a matrix product of tiles, with either factor first."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def empty_sums(
    SWAP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DTYPE: tl.constexpr
):
    """Zeros for `add_product`: [BLOCK_N, BLOCK_M] when SWAP, else [BLOCK_M, BLOCK_N]."""
    if SWAP:
        sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=DTYPE)
    else:
        sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=DTYPE)
    return sums


@triton.jit
def add_product(x, weight, sums, SWAP: tl.constexpr, DTYPE: tl.constexpr, IMPRECISE: tl.constexpr):
    """sums + x @ weight^T, or its transpose when SWAP.

    The matrix unit wants 64 rows of its first operand: with few tokens, x [BLOCK_M, BLOCK_K] does
    not have them and weight [BLOCK_N, BLOCK_K] does. IMPRECISE: see `TileConfig.imprecise`.
    """
    if SWAP:
        sums = tl.dot(weight, x.T, sums, out_dtype=DTYPE, max_num_imprecise_acc=IMPRECISE)
    else:
        sums = tl.dot(x, weight.T, sums, out_dtype=DTYPE, max_num_imprecise_acc=IMPRECISE)
    return sums
