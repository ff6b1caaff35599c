"""Kernels that start before the one ahead has ended (programmatic dependent launch, Hopper).

A kernel launched so may do anything that does not touch memory which earlier kernels read or
write, until `wait_for_inputs`; after it, all of them have ended and their writes are seen. That
hides its launch, and the first fetches of weights, which no kernel writes. The kernel behind it
may start the same way from `let_dependents_start` on.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def wait_for_inputs(PDL: tl.constexpr):
    """Must stand before the first load of an input and the first store."""
    if PDL:
        gdc_wait()


@triton.jit
def let_dependents_start(PDL: tl.constexpr):
    """Once all programs of this kernel came here, those of the next take what room there is."""
    if PDL:
        gdc_launch_dependents()


@triton.jit
def prefetch_rows(
    matrix_ptr, first_row, first_column, num_rows, stride, ROWS: tl.constexpr, BYTES: tl.constexpr
):
    """Ask for BYTES (0: none) of each of ROWS rows from first_column on to come to the L2 cache.

    Rows must be aligned to 16 bytes. What lies behind a row's end is harmless to ask for: it is the
    next row, and the last row's asks are shortened by nothing, so BYTES must not exceed a row.
    """
    if BYTES > 0:
        rows = min(first_row + tl.arange(0, ROWS), num_rows - 1)
        pointers = matrix_ptr + rows.to(tl.int64) * stride + first_column
        tl.inline_asm_elementwise(
            f"cp.async.bulk.prefetch.L2.global [$1], {BYTES}; mov.b32 $0, 0;",
            "=r,l",
            [pointers],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
