"""Tiles of row-major matrices, by the tensor copy engine (TMA) or by pointers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

TMA_ALIGNMENT = 16
"""Bytes: the copy engine wants the start and every row at a multiple of it."""


@triton.jit
def load_tile(
    matrix,
    first_row,
    first_column,
    num_rows,
    num_columns,
    stride,
    TMA: tl.constexpr,
    EVEN_COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """matrix[first_row : + ROWS, first_column : + COLUMNS]; what lies outside is zero.

    `matrix` is a descriptor when TMA, else a pointer with `stride` elements between rows.
    """
    if TMA:
        tile = matrix.load([first_row, first_column])
    else:
        rows = first_row + tl.arange(0, ROWS)
        columns = first_column + tl.arange(0, COLUMNS)
        pointers = matrix + rows[:, None].to(tl.int64) * stride + columns[None, :]
        mask = rows[:, None] < num_rows
        if not EVEN_COLUMNS:
            mask &= columns[None, :] < num_columns
        tile = tl.load(pointers, mask=mask, other=0.0)
    return tile


def fits_tma(matrix: Tensor) -> bool:
    """Whether the copy engine can read tiles of this [rows, columns]."""
    return (
        matrix.stride(1) == 1
        and matrix.data_ptr() % TMA_ALIGNMENT == 0
        and matrix.stride(0) * matrix.element_size() % TMA_ALIGNMENT == 0
    )


def describe_rows(matrix: Tensor, block_rows: int, block_columns: int) -> TensorDescriptor:
    """The copy engine's description of a row-major matrix, read in tiles."""
    return TensorDescriptor(
        matrix, list(matrix.shape), [matrix.stride(0), 1], [block_rows, block_columns]
    )


def with_dense_rows(matrix: Tensor) -> Tensor:
    """The matrix itself where its rows are dense, else a copy that has dense rows."""
    return matrix if matrix.stride(-1) == 1 else matrix.contiguous()
