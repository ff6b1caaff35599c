"""The gather's body against indexing: copies, so equal to the bit."""

from __future__ import annotations

import pytest
import torch

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.gather_rows import gather_rows, gather_rows_torch
from tests.kernels.triton.row_data import DTYPES, rand


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ids_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("dim", [1, 37, 2049])
def test_gather_rows(
    dim: int, ids_dtype: torch.dtype, dtype: torch.dtype, device: torch.device
) -> None:
    table = rand(11, dim, device=device, dtype=dtype)
    ids = torch.tensor([10, 0, 3, 3, 7], dtype=ids_dtype, device=device)
    assert torch.equal(gather_rows(table, ids), table[ids.long()])


def test_what_is_outside_is_zeros(device: torch.device) -> None:
    table = torch.full((5, 8), float("nan"), device=device)
    table[1:4] = 1.0
    ids = torch.tensor([[-1, 1], [2, 3], [2**40, -(2**40)]], device=device)
    out = gather_rows(table[1:4], ids)
    assert torch.equal(out, gather_rows_torch(table[1:4], ids))
    assert out[..., 0].tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize(("rows", "count", "dim"), [(4, 0, 8), (0, 3, 8), (4, 3, 0)])
def test_empty(rows: int, count: int, dim: int, device: torch.device) -> None:
    ids = torch.zeros(count, dtype=torch.int64, device=device)
    out = gather_rows(torch.ones(rows, dim, device=device), ids)
    assert out.shape == (count, dim)
    assert not out[:, :1].any() or rows


def test_a_table_with_a_stride_is_read_in_place(device: torch.device) -> None:
    wide = torch.full((9, 40), float("nan"), device=device)
    wide[:, :20] = rand(9, 20, device=device)
    ids = torch.tensor([8, 0, 5], device=device)
    assert torch.equal(gather_rows(wide[:, :20], ids), wide[ids, :20])


def test_ids_may_have_a_stride(device: torch.device) -> None:
    table = rand(9, 5, device=device)
    ids = torch.arange(9, device=device)[1::3]
    assert torch.equal(gather_rows(table, ids), table[ids])


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device: torch.device) -> None:
    table = torch.zeros(2**19 + 3, 4096, device=device, dtype=torch.bfloat16)
    table[-1] = torch.arange(4096, device=device)
    ids = torch.tensor([2**19 + 2, 0], device=device)
    assert torch.equal(gather_rows(table, ids), table[ids])
