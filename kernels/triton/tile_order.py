"""In which order programs take the tiles of a matrix product."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_of_program(
    program,
    num_rows,
    num_columns,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """(tile row, tile column) such that programs which run together share tiles in the L2 cache.

    GROUP_M tile rows are walked column by column, then the next GROUP_M (the order of Triton's
    matrix multiplication tutorial).
    """
    num_tiles_m = tl.cdiv(num_rows, BLOCK_M)
    num_tiles_n = tl.cdiv(num_columns, BLOCK_N)
    group = program // (GROUP_M * num_tiles_n)
    first_m = group * GROUP_M
    group_m = min(num_tiles_m - first_m, GROUP_M)
    place = program % (GROUP_M * num_tiles_n)
    return first_m + place % group_m, place // group_m
