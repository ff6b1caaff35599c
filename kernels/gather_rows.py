"""Rows of a table by index: the embedding of tokens, the hidden states whose logits are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton


def gather_rows(table: Tensor, ids: Tensor) -> Tensor:
    """table[ids]; an index outside the table gives a row of zeros.

    table: [num_rows, dim]; ids: [...] int32 or int64; returns [..., dim] in the table's dtype.
    Zeros, as an index that was computed on the device cannot raise an error there, and as a shard
    of a vocabulary wants them for the tokens of other shards.
    """
    if table.dim() != 2:
        raise ValueError(f"gather_rows: table has shape {tuple(table.shape)}; pass [rows, dim]")
    if ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"gather_rows: ids are {ids.dtype}; pass int32 or int64")
    if uses_triton(table):
        from .triton.gather_rows import gather_rows_triton

        return gather_rows_triton(table, ids)
    return gather_rows_torch(table, ids)


def gather_rows_torch(table: Tensor, ids: Tensor) -> Tensor:
    """The meaning of `gather_rows`."""
    outside = (ids < 0) | (ids >= table.shape[0])
    if table.shape[0] == 0:
        return table.new_zeros(*ids.shape, table.shape[1])
    rows = table[ids.masked_fill(outside, 0).long()]
    return rows.masked_fill_(outside[..., None], 0)
