"""Prefill attention in Triton against fp64: ragged steps, with NaN in every slot nobody owns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.prefill_attention import prefill_attention, prefill_attention_torch
from shoal.kernels.ragged_batch import RaggedBatch
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import far_away

ON_GPU = torch.cuda.is_available()
SCALE = 0.17

Lens = list[tuple[int, int]]
"""(query_len, seq_len) of each request."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Queries, and caches whose rows lie in permuted blocks; every other slot is NaN."""

    query: Tensor
    key_cache: Tensor
    value_cache: Tensor
    batch: RaggedBatch

    def attend(self, min_query_len: int = 1) -> tuple[Tensor, Tensor]:
        out = torch.full_like(self.query, math.nan)
        lse = self.query.new_full(self.query.shape[:2], math.nan, dtype=torch.float32)
        with triton_on_cpu():
            prefill_attention(
                self.query, self.key_cache, self.value_cache, self.batch,
                scale=SCALE, min_query_len=min_query_len, out=out, lse=lse,
            )  # fmt: skip
        return out, lse

    def twin(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        query = self.query.to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        out, lse = torch.empty_like(query), query.new_empty(query.shape[:2], dtype=wide)
        prefill_attention_torch(
            query, self.key_cache.to(dtype), self.value_cache.to(dtype), self.batch,
            SCALE, 1, out, lse,
        )  # fmt: skip
        return out, lse


def step(
    lens: Lens,
    *,
    device: torch.device,
    dtype: torch.dtype,
    heads: tuple[int, int] = (2, 1),
    head_dim: int = 16,
    block_size: int = 4,
    heads_first: bool = False,
    padding: int = 0,
    window: int | None = None,
    seed: int = 0,
) -> Step:
    rng = torch.Generator().manual_seed(seed)
    num_q_heads, num_kv_heads = heads
    counts = [-(-n // block_size) for _, n in lens]
    num_blocks = sum(counts) + 3
    free = torch.randperm(num_blocks, generator=rng).tolist()
    tables = torch.full((len(lens) + padding, max(counts, default=0) + 1), 2**30)
    shape = (num_blocks, block_size, num_kv_heads, head_dim)
    caches = [torch.full(shape, math.nan, dtype=dtype) for _ in range(2)]
    for i, ((q, n), count) in enumerate(zip(lens, counts, strict=True)):
        blocks = torch.tensor([free.pop() for _ in range(count)], dtype=torch.int64)
        oldest = 0 if window is None else max(n - q - window + 1, 0)
        kept = oldest // block_size  # blocks before it have been given away
        tables[i, kept:count] = blocks[kept:]
        at = torch.arange(kept * block_size, n)
        for cache in caches:
            rows = torch.randn(len(at), num_kv_heads, head_dim, generator=rng).to(dtype)
            cache[blocks[at // block_size], at % block_size] = rows
    starts = torch.tensor([0] + [q for q, _ in lens] + [0] * padding).cumsum(0)
    num_tokens = int(starts[-1]) + padding
    query = torch.randn(num_tokens, num_q_heads, head_dim, generator=rng).to(dtype)
    if heads_first:
        caches = [c.transpose(1, 2).contiguous().transpose(1, 2) for c in caches]
    key_cache, value_cache = (c.to(device) for c in caches)
    return Step(
        query=query.to(device), key_cache=key_cache, value_cache=value_cache,
        batch=RaggedBatch(
            query_start_loc=starts.int().to(device),
            seq_lens=torch.tensor([n for _, n in lens] + [0] * padding).int().to(device),
            block_tables=tables.int().to(device),
            slot_mapping=torch.full((num_tokens,), -1, device=device),
            block_size=block_size,
            max_query_len=max((q for q, _ in lens), default=0),
            max_seq_len=max((n for _, n in lens), default=0),
            sliding_window=window,
        ),
    )  # fmt: skip


def assert_right(case: Step) -> None:
    out, lse = case.attend()
    owned = slice(0, int(case.batch.query_start_loc[-1]))
    same, same_lse = case.twin(case.query.dtype)
    exact, exact_lse = case.twin(torch.float64)
    assert_as_exact_as(same[owned], out[owned], exact[owned])
    assert_as_exact_as(same_lse[owned], lse[owned], exact_lse[owned])
    assert out[owned.stop :].isnan().all()
    assert lse[owned.stop :].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_ragged_chunks(device: torch.device, dtype: torch.dtype) -> None:
    lens = [(1, 1), (5, 5), (3, 37), (33, 40), (0, 9), (31, 31)]
    assert_right(step(lens, device=device, dtype=dtype, heads=(4, 2), padding=2))


@pytest.mark.parametrize(("block_size", "head_dim"), [(1, 16), (3, 24), (16, 24)])
def test_odd_blocks_and_heads(device: torch.device, block_size: int, head_dim: int) -> None:
    lens = [(17, 17), (16, 33)]
    assert_right(
        step(
            lens, device=device, dtype=torch.float32, heads=(3, 1), head_dim=head_dim,
            block_size=block_size, heads_first=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("window", [1, 7, 33])
def test_windows(device: torch.device, window: int) -> None:
    lens = [(3, 50), (40, 70)]
    assert_right(step(lens, device=device, dtype=torch.float16, heads=(1, 1), window=window))


def test_a_tile_and_one_more_token(device: torch.device) -> None:
    assert_right(step([(129, 140)], device=device, dtype=torch.float16, heads=(1, 1)))


def test_an_empty_step(device: torch.device) -> None:
    out, _ = step([], device=device, dtype=torch.float32).attend()
    assert out.shape == (0, 2, 16)


def test_short_requests_are_left_alone(device: torch.device) -> None:
    case = step([(1, 9), (6, 6), (5, 20)], device=device, dtype=torch.float32)
    out, lse = case.attend(min_query_len=6)
    whole, whole_lse = case.attend()
    assert torch.equal(out[1:7], whole[1:7])
    assert torch.equal(lse[1:7], whole_lse[1:7])
    for result in (out, lse):
        assert result[:1].isnan().all()
        assert result[7:].isnan().all()


def test_a_request_does_not_depend_on_its_neighbours(device: torch.device) -> None:
    case = step([(7, 30), (40, 40), (2, 3)], device=device, dtype=torch.float16)
    out, _ = case.attend()
    alone = Step(
        query=case.query[7:47], key_cache=case.key_cache, value_cache=case.value_cache,
        batch=RaggedBatch(
            query_start_loc=torch.tensor([0, 40], dtype=torch.int32, device=device),
            seq_lens=case.batch.seq_lens[1:2], block_tables=case.batch.block_tables[1:2],
            slot_mapping=case.batch.slot_mapping[:40], block_size=4, max_query_len=40,
            max_seq_len=40,
        ),
    )  # fmt: skip
    assert torch.equal(alone.attend()[0], out[7:47])


GPU_LENS: dict[str, Lens] = {
    "one tile": [(128, 128)],
    "around tiles": [(127, 127), (129, 129), (1, 1), (255, 257), (64, 64), (65, 130)],
    "later chunks": [(256, 1000), (300, 333), (1, 500), (129, 640), (5, 2000)],
    "longer than all programs": [(3000, 3000), (700, 5000)],
}


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="the body for Hopper cannot be interpreted")
@pytest.mark.parametrize(
    ("block_size", "heads_first", "head_dim", "dtype"),
    [
        (8, True, 128, torch.bfloat16),
        (16, False, 128, torch.bfloat16),
        (64, True, 64, torch.float16),
        (128, False, 128, torch.float16),
    ],
)
@pytest.mark.parametrize("name", GPU_LENS)
def test_on_hopper(
    device: torch.device,
    block_size: int,
    heads_first: bool,
    head_dim: int,
    dtype: torch.dtype,
    name: str,
) -> None:
    assert_right(
        step(
            GPU_LENS[name], device=device, dtype=dtype, heads=(8, 2), head_dim=head_dim,
            block_size=block_size, heads_first=heads_first, padding=3,
        )
    )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="the body for Hopper cannot be interpreted")
@pytest.mark.parametrize("window", [1, 100, 128, 1000, 100_000])
def test_windows_on_hopper(device: torch.device, window: int) -> None:
    lens = [(300, 2300), (700, 700), (1, 900), (129, 1411)]
    assert_right(
        step(
            lens, device=device, dtype=torch.bfloat16, heads=(8, 2), head_dim=128, block_size=16,
            window=window,
        )
    )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="the body for Hopper cannot be interpreted")
def test_neighbours_on_hopper(device: torch.device) -> None:
    case = step(
        [(300, 900), (1000, 1000), (40, 40)], device=device, dtype=torch.bfloat16, heads=(8, 2),
        head_dim=128, block_size=16,
    )  # fmt: skip
    out, lse = case.attend()
    alone = Step(
        query=case.query[300:1300], key_cache=case.key_cache, value_cache=case.value_cache,
        batch=RaggedBatch(
            query_start_loc=torch.tensor([0, 1000], dtype=torch.int32, device=device),
            seq_lens=case.batch.seq_lens[1:2], block_tables=case.batch.block_tables[1:2],
            slot_mapping=case.batch.slot_mapping[:1000], block_size=16, max_query_len=1000,
            max_seq_len=1000,
        ),
    )  # fmt: skip
    out_alone, lse_alone = alone.attend()
    assert torch.equal(out_alone, out[300:1300])
    assert torch.equal(lse_alone, lse[300:1300])


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="these sizes need a GPU")
@pytest.mark.parametrize("head_dim", [96, 256])
def test_other_head_sizes_on_a_gpu(device: torch.device, head_dim: int) -> None:
    assert_right(
        step(
            GPU_LENS["later chunks"], device=device, dtype=torch.bfloat16, heads=(4, 2),
            head_dim=head_dim, block_size=16,
        )
    )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs 9 GB of a GPU")
@pytest.mark.parametrize("head_dim", [96, 128])  # 128: the body for Hopper
def test_offsets_pass_two_to_the_31(device: torch.device, head_dim: int) -> None:
    small = step(
        [(20, 30)], device=device, dtype=torch.float16, head_dim=head_dim, block_size=16
    )  # fmt: skip
    own = small.batch.block_tables[0, :2].long()
    key_cache, value_cache = far_away(small.key_cache[own]), far_away(small.value_cache[own])
    last = len(key_cache) - 1
    tables = torch.tensor([[last - 1, last]], dtype=torch.int32, device=device)
    batch = replace(small.batch, block_tables=tables)
    large = replace(small, key_cache=key_cache, value_cache=value_cache, batch=batch)
    for found, expected in zip(large.attend(), small.attend(), strict=True):
        assert torch.equal(found, expected)
