"""Rows of a table by index."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..launch.gather_rows import gather_rows_config
from .quick_launch import QuickLaunch, dependent_launch
from .rows import as_rows, row_stride


def gather_rows_triton(table: Tensor, ids: Tensor) -> Tensor:
    """See `kernels.gather_rows`: one program for each tile of a row that is asked for."""
    rows = as_rows(table)
    dim = rows.shape[1]
    out = torch.empty((*ids.shape, dim), dtype=table.dtype, device=table.device)
    if out.numel():
        config = gather_rows_config(dim)
        pdl = dependent_launch(table.device)
        _quick_gather_rows(
            (ids.numel(), -(-dim // config.block)),
            rows,
            ids.reshape(-1).contiguous(),
            out,
            rows.shape[0],
            STRIDE_ROW=row_stride(rows),
            DIM=dim,
            BLOCK=config.block,
            PDL=pdl,
            num_warps=config.num_warps,
            launch_pdl=pdl,
        )
    return out


@triton.jit(do_not_specialize=["num_rows"])
def _gather_rows_kernel(
    table_ptr,  # [num_rows, DIM], row stride STRIDE_ROW
    ids_ptr,  # [n]
    out_ptr,  # [n, DIM] contiguous
    num_rows,
    STRIDE_ROW: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[i] = table[ids[i]], or zeros for an index outside the table."""
    if PDL:
        gdc_wait()
    index = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(ids_ptr + index).to(tl.int64)
    inside = (row >= 0) & (row < num_rows)
    mask = columns < DIM
    values = tl.load(table_ptr + row * STRIDE_ROW + columns, mask=mask & inside, other=0.0)
    tl.store(out_ptr + index * DIM + columns, values, mask=mask)


_quick_gather_rows = QuickLaunch(_gather_rows_kernel)
