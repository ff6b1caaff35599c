"""Rows of a table by index."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.gather_rows import gather_rows_launch
from .rows import as_rows


def gather_rows_triton(table: Tensor, ids: Tensor) -> Tensor:
    rows = as_rows(table)
    dim = rows.shape[1]
    out = torch.empty((*ids.shape, dim), dtype=table.dtype, device=table.device)
    if out.numel():
        launch = gather_rows_launch(dim)
        grid = (ids.numel(), triton.cdiv(dim, launch.block))
        _gather_rows_kernel[grid](
            rows, ids.reshape(-1), out, rows.stride(0), rows.shape[0], dim, **launch.constants
        )
    return out


@triton.jit
def _gather_rows_kernel(
    table_ptr,  # [num_rows, dim], row stride stride_row
    ids_ptr,  # [n]
    out_ptr,  # [n, dim] contiguous
    stride_row,
    num_rows,
    dim,
    BLOCK: tl.constexpr,
):
    """out[i] = table[ids[i]], or zeros for an index outside the table."""
    index = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(ids_ptr + index).to(tl.int64)
    inside = (row >= 0) & (row < num_rows)
    mask = columns < dim
    values = tl.load(table_ptr + row * stride_row + columns, mask=mask & inside, other=0.0)
    tl.store(out_ptr + index * dim + columns, values, mask=mask)
