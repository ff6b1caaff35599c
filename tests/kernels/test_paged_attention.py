"""Paged attention against a naive fp64 reference, with poison wherever nothing may be read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from shoal.kernels.attention_metadata import AttentionMetadata
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_attention import paged_attention
from shoal.kernels.paged_batch import PagedBatch
from shoal.kernels.reshape_and_cache import reshape_and_cache

NUM_BLOCKS, BLOCK_SIZE, HEAD_DIM = 160, 4, 16

Batch = list[tuple[int, int]]
"""(query_len, seq_len) of each request."""


class Case:
    """Requests with random K and V in permuted blocks of a cache that is NaN everywhere else."""

    def __init__(
        self,
        batch: Batch,
        *,
        kv_heads: int = 2,
        group: int = 3,
        dtype: torch.dtype = torch.float32,
        window: int | None = None,
        seed: int = 0,
    ) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.batch, self.window, self.group = batch, window, group
        shape = kv_cache_shape(NUM_BLOCKS, BLOCK_SIZE, kv_heads, HEAD_DIM)
        self.key_cache = torch.full(shape, math.nan, dtype=dtype)
        self.value_cache = torch.full(shape, math.nan, dtype=dtype)
        self.key_cache[0] = self.value_cache[0] = 0  # the null block holds numbers
        free = (torch.randperm(NUM_BLOCKS - 1, generator=rng) + 1).tolist()
        width = max((-(-n // BLOCK_SIZE) for _, n in batch), default=1) + 2
        self.tables = torch.zeros(len(batch), width, dtype=torch.int32)
        self.keys, self.values, slots = [], [], []
        for row, (query_len, seq_len) in enumerate(batch):
            key = torch.randn(seq_len, kv_heads, HEAD_DIM, generator=rng).to(dtype)
            value = torch.randn(seq_len, kv_heads, HEAD_DIM, generator=rng).to(dtype)
            oldest = 0 if window is None else max(seq_len - query_len - window + 1, 0)
            first_block = oldest // BLOCK_SIZE
            for i in range(-(-seq_len // BLOCK_SIZE)):
                # Blocks that have left the window belong to somebody else by now.
                self.tables[row, i] = free.pop() if i >= first_block else 999_999
            held = first_block * BLOCK_SIZE
            positions = torch.arange(held, seq_len)
            blocks = self.tables[row, positions // BLOCK_SIZE].long()
            slot = blocks * BLOCK_SIZE + positions % BLOCK_SIZE
            reshape_and_cache(key[held:], value[held:], self.key_cache, self.value_cache, slot)
            slots.append(slot[slot.numel() - query_len :])
            self.keys.append(key)
            self.values.append(value)
        num_tokens = sum(query_len for query_len, _ in batch)
        self.query = torch.randn(num_tokens, kv_heads * group, HEAD_DIM, generator=rng).to(dtype)
        self.slots = torch.cat(slots) if slots else torch.zeros(0, dtype=torch.int64)

    def paged_batch(self) -> PagedBatch:
        return PagedBatch(
            query_lens=np.array([q for q, _ in self.batch], dtype=np.int64),
            seq_lens=np.array([n for _, n in self.batch], dtype=np.int64),
            block_tables=self.tables,
            slot_mapping=self.slots,
            block_size=BLOCK_SIZE,
            sliding_window=self.window,
        )

    def run(self) -> Tensor:
        metadata = AttentionMetadata.build(self.paged_batch(), torch.device("cpu"))
        return paged_attention(
            self.query, self.key_cache, self.value_cache, metadata, scale=HEAD_DIM**-0.5
        )

    def naive(self, dtype: torch.dtype) -> Tensor:
        """The formula, request by request, computed in `dtype`."""
        outs, start = [torch.zeros(0, *self.query.shape[1:], dtype=dtype)], 0
        for (query_len, seq_len), key, value in zip(
            self.batch, self.keys, self.values, strict=True
        ):
            query = self.query[start : start + query_len].to(dtype)
            start += query_len
            key = key.to(dtype).repeat_interleave(self.group, dim=1)
            value = value.to(dtype).repeat_interleave(self.group, dim=1)
            scores = torch.einsum("qhd,khd->hqk", query, key) * HEAD_DIM**-0.5
            at = torch.arange(seq_len - query_len, seq_len)[:, None]
            keys = torch.arange(seq_len)
            hidden = keys > at
            if self.window is not None:
                hidden |= keys <= at - self.window
            scores = scores.masked_fill(hidden, -math.inf)
            outs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value))
        return torch.cat(outs)


def assert_as_good_as_torch(case: Case) -> None:
    """At most twice the error of the plain formula in the same dtype, against fp64."""
    exact = case.naive(torch.float64)
    out = case.run()
    assert out.shape == case.query.shape
    assert out.dtype == case.query.dtype
    assert not out.isnan().any()
    allowed = (case.naive(case.query.dtype).double() - exact).abs().max() if exact.numel() else 0.0
    worst = (out.double() - exact).abs().max() if exact.numel() else 0.0
    # One rounding of the result is always allowed.
    assert worst <= 2 * allowed + torch.finfo(case.query.dtype).eps * 2


BATCHES: dict[str, Batch] = {
    "nothing": [],
    "one token": [(1, 1)],
    "decodes": [(1, 2), (1, 3), (1, 4), (1, 5), (1, 17), (1, 31)],
    "one long decode among short ones": [(1, 2), (1, 150), (1, 3)],
    "whole prompts": [(2, 2), (3, 3), (4, 4), (5, 5), (37, 37)],
    "later chunks": [(2, 9), (7, 31), (4, 8)],
    "mixed": [(1, 7), (1, 64), (1, 13), (5, 5), (6, 29), (2, 3), (1, 1), (1, 9)],
}


@pytest.mark.parametrize("window", [None, 1, 3, 8, 1000])
@pytest.mark.parametrize("name", BATCHES)
def test_batches_and_windows(name: str, window: int | None) -> None:
    assert_as_good_as_torch(Case(BATCHES[name], window=window))


@pytest.mark.parametrize(("kv_heads", "group"), [(1, 1), (3, 1), (3, 3), (2, 4), (1, 8)])
def test_grouped_queries(kv_heads: int, group: int) -> None:
    assert_as_good_as_torch(Case(BATCHES["mixed"], kv_heads=kv_heads, group=group))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype, window: int | None) -> None:
    assert_as_good_as_torch(Case(BATCHES["mixed"], dtype=dtype, window=window, seed=3))


def test_random_batches() -> None:
    rng = torch.Generator().manual_seed(7)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    for seed in range(40):
        decodes = [(1, draw(1, 40)) for _ in range(draw(0, 6))]
        chunks = [(n, n + draw(0, 30)) for n in (draw(2, 20) for _ in range(draw(0, 3)))]
        window = draw(1, 25) if seed % 2 else None
        assert_as_good_as_torch(Case(decodes + chunks, window=window, seed=seed))


def test_one_long_sequence_does_not_pad_the_short_ones() -> None:
    case = Case([(1, 3)] * 10 + [(1, 200)])
    metadata = AttentionMetadata.build(case.paged_batch(), torch.device("cpu"))
    assert sum(bucket.block_ids.numel() for bucket in metadata.decodes) == 10 + 50
