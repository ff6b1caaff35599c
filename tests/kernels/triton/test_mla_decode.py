"""MLA decode in Triton against fp64, over odd shapes, with NaN in every slot nobody owns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.launch import mla_decode as launch
from shoal.kernels.mla_decode import mla_decode, mla_decode_torch
from shoal.kernels.triton import mla_decode as body
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import far_away

ON_GPU = torch.cuda.is_available()


@dataclass(frozen=True, kw_only=True)
class Paged:
    """Queries and a cache whose rows lie in permuted blocks; every other slot is NaN."""

    query: Tensor
    cache: Tensor
    tables: Tensor
    seq_lens: Tensor
    max_seq_len: int

    def attend(self, *, value_dim: int, scale: float) -> tuple[Tensor, Tensor]:
        with triton_on_cpu():
            out = torch.full_like(self.query[..., :value_dim], math.nan).contiguous()
            return mla_decode(
                self.query, self.cache, self.tables, self.seq_lens, value_dim=value_dim,
                scale=scale, max_seq_len=self.max_seq_len, out=out, return_lse=True,
            )  # fmt: skip

    def twin(self, dtype: torch.dtype, *, value_dim: int, scale: float) -> tuple[Tensor, Tensor]:
        query = self.query.to(dtype)
        out = torch.empty_like(query[..., :value_dim]).contiguous()
        wide = torch.promote_types(dtype, torch.float32)
        lse = query.new_empty(query.shape[:2], dtype=wide)
        mla_decode_torch(query, self.cache.to(dtype), self.tables, self.seq_lens, scale, out, lse)
        return out, lse


def paged(
    lens: list[int],
    *,
    device: torch.device,
    num_heads: int,
    key_dim: int,
    block_size: int,
    dtype: torch.dtype,
    seed: int = 0,
    slack: int = 0,
) -> Paged:
    rng = torch.Generator().manual_seed(seed)
    counts = [-(-n // block_size) for n in lens]
    num_blocks = sum(counts) + 3
    cache = torch.full((num_blocks, block_size, key_dim), math.nan, dtype=dtype)
    free = torch.randperm(num_blocks, generator=rng).tolist()
    tables = torch.full((len(lens), max(counts, default=0) + 1 + slack), 2**30, dtype=torch.int32)
    for i, (n, count) in enumerate(zip(lens, counts, strict=True)):
        blocks = torch.tensor([free.pop() for _ in range(count)], dtype=torch.int64)
        tables[i, :count] = blocks.int()
        at = torch.arange(n)
        rows = torch.randn(n, key_dim, generator=rng).to(dtype)
        cache[blocks[at // block_size], at % block_size] = rows
    query = torch.randn(len(lens), num_heads, key_dim, generator=rng).to(dtype)
    return Paged(
        query=query.to(device), cache=cache.to(device), tables=tables.to(device),
        seq_lens=torch.tensor(lens, dtype=torch.int32, device=device),
        max_seq_len=max(lens, default=0),
    )  # fmt: skip


def assert_right(case: Paged, *, value_dim: int, scale: float) -> None:
    out, lse = case.attend(value_dim=value_dim, scale=scale)
    same, same_lse = case.twin(case.query.dtype, value_dim=value_dim, scale=scale)
    exact, exact_lse = case.twin(torch.float64, value_dim=value_dim, scale=scale)
    assert_as_exact_as(same, out, exact)
    empty = case.seq_lens == 0
    assert (lse[empty] == -math.inf).all()
    assert_as_exact_as(same_lse[~empty], lse[~empty], exact_lse[~empty])


@pytest.fixture
def short_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    def config(*args: object, **kwargs: object) -> launch.MlaDecodeConfig:
        return replace(launch.mla_decode_config(*args, **kwargs), split_size=32)

    monkeypatch.setattr(body, "mla_decode_config", config)


@pytest.mark.parametrize(
    ("block_size", "dtype"), [(1, torch.float16), (4, torch.float32), (16, torch.float16)]
)
def test_lengths_around_blocks(device: torch.device, block_size: int, dtype: torch.dtype) -> None:
    lens = [1, block_size, block_size + 1, max(block_size - 1, 1), 0, 31]
    case = paged(lens, device=device, num_heads=3, key_dim=48, block_size=block_size, dtype=dtype)
    assert_right(case, value_dim=32, scale=48**-0.5)


@pytest.mark.usefixtures("short_splits")
def test_splits_are_merged(device: torch.device) -> None:
    case = paged(
        [32, 33, 97, 1, 0, 64], device=device, num_heads=5, key_dim=40, block_size=8,
        dtype=torch.float32,
    )  # fmt: skip
    assert_right(case, value_dim=24, scale=0.3)


@pytest.mark.usefixtures("short_splits")
def test_a_sequence_does_not_depend_on_its_neighbours(device: torch.device) -> None:
    together = paged(
        [70, 5, 33], device=device, num_heads=2, key_dim=32, block_size=4, dtype=torch.float16,
        slack=9,
    )  # fmt: skip
    out, lse = together.attend(value_dim=16, scale=0.2)
    for i in range(3):
        alone = Paged(
            query=together.query[i : i + 1], cache=together.cache,
            tables=together.tables[i : i + 1], seq_lens=together.seq_lens[i : i + 1],
            max_seq_len=int(together.seq_lens[i]),
        )  # fmt: skip
        out_alone, lse_alone = alone.attend(value_dim=16, scale=0.2)
        assert torch.equal(out_alone[0], out[i])
        assert torch.equal(lse_alone[0], lse[i])


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="bf16 products and these sizes need a GPU")
@pytest.mark.parametrize(
    ("num_heads", "block_size", "dtype"),
    [
        (1, 16, torch.float16),
        (65, 16, torch.bfloat16),
        (128, 64, torch.bfloat16),
        (128, 32, torch.float16),
    ],
)
def test_deepseek_shapes(
    device: torch.device, num_heads: int, block_size: int, dtype: torch.dtype
) -> None:
    lens = [1, 63, 64, 65, 1023, 1024, 1025, 4097, 0, 31, 33]
    case = paged(
        lens, device=device, num_heads=num_heads, key_dim=576, block_size=block_size, dtype=dtype
    )
    assert_right(case, value_dim=512, scale=192**-0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="the body for Hopper cannot be interpreted")
def test_neighbours_on_hopper(device: torch.device) -> None:
    together = paged(
        [3000, 70, 2100], device=device, num_heads=128, key_dim=576, block_size=16,
        dtype=torch.bfloat16,
    )  # fmt: skip
    out, lse = together.attend(value_dim=512, scale=0.07)
    alone = Paged(
        query=together.query[2:], cache=together.cache, tables=together.tables[2:],
        seq_lens=together.seq_lens[2:], max_seq_len=2100,
    )  # fmt: skip
    out_alone, lse_alone = alone.attend(value_dim=512, scale=0.07)
    assert torch.equal(out_alone[0], out[2])
    assert torch.equal(lse_alone[0], lse[2])


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs 5 GB of a GPU")
@pytest.mark.parametrize("num_heads", [3, 64])
def test_offsets_pass_two_to_the_31(device: torch.device, num_heads: int) -> None:
    small = paged(
        [30], device=device, num_heads=num_heads, key_dim=576, block_size=16, dtype=torch.float16
    )
    whole = far_away(small.cache[small.tables[0, :2].long()])
    tables = torch.tensor([[len(whole) - 2, len(whole) - 1]], dtype=torch.int32, device=device)
    large = replace(small, cache=whole, tables=tables)
    for found, expected in zip(
        large.attend(value_dim=512, scale=0.07), small.attend(value_dim=512, scale=0.07),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(found, expected)
