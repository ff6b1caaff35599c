"""Tensors as rows: what the operations over a last dimension work on."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def as_rows(x: Tensor) -> Tensor:
    """x as [rows, dim], each row contiguous; copied only where its strides cannot say so."""
    if x.dim() == 2 and x.stride(1) == 1:  # what nearly every call has, and reshaping takes time
        return x
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] <= 1 else rows.contiguous()


def row_stride(rows: Tensor) -> int:
    """From row to row of [rows, dim]. One row may have any stride; a constant of a kernel must not,
    or every odd one would compile a program."""
    return rows.stride(0) if rows.shape[0] > 1 else rows.shape[1]


def as_rows_in_place(x: Tensor, name: str) -> Tensor:
    """The same for a tensor that is written: never a copy."""
    if not x.is_contiguous():
        raise ValueError(
            f"{name} is updated in place and must be contiguous; its strides are"
            f" {x.stride()} for shape {tuple(x.shape)}"
        )
    return x if x.dim() == 2 else x.view(math.prod(x.shape[:-1]), x.shape[-1])


def empty_contiguous(x: Tensor) -> Tensor:
    """Of x's shape and dtype."""
    if x.is_contiguous():
        return torch.empty_like(x)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
