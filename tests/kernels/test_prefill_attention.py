"""Prefill attention's meaning in torch against plain fp64 attention, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from shoal.kernels.prefill_attention import prefill_attention
from shoal.kernels.ragged_batch import RaggedBatch

BLOCK_SIZE = 4


def batch(
    query_lens: list[int], seq_lens: list[int], tables: Tensor, window: int | None = None
) -> RaggedBatch:
    starts = torch.tensor([0, *query_lens]).cumsum(0).int()
    return RaggedBatch(
        query_start_loc=starts, seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        block_tables=tables.int(), slot_mapping=torch.zeros(int(starts[-1]), dtype=torch.int64),
        block_size=BLOCK_SIZE, max_query_len=max(query_lens), max_seq_len=max(seq_lens),
        sliding_window=window,
    )  # fmt: skip


@pytest.mark.parametrize("window", [None, 1, 5, 100])
def test_chunks_are_causal_attention_over_their_own_blocks(window: int | None) -> None:
    torch.manual_seed(0)
    key_cache, value_cache = torch.randn(2, 9, BLOCK_SIZE, 2, 8)
    tables = torch.tensor([[7, 2, 5, 0], [1, 8, 3, 6]])
    query_lens, seq_lens = [3, 14], [11, 14]
    query = torch.randn(17, 6, 8)
    lse = torch.empty(17, 6)
    step = batch(query_lens, seq_lens, tables, window)
    out = prefill_attention(query, key_cache, value_cache, step, scale=0.4, lse=lse)
    begin = 0
    for i, (query_len, seq_len) in enumerate(zip(query_lens, seq_lens, strict=True)):
        rows = slice(begin, begin + query_len)
        begin += query_len
        q = query[rows].transpose(0, 1).double()
        k, v = (
            c[tables[i]].reshape(-1, 2, 8)[:seq_len].transpose(0, 1).double()
            for c in (key_cache, value_cache)
        )
        seen = torch.ones(query_len, seq_len, dtype=torch.bool).tril(seq_len - query_len)
        if window is not None:
            seen = seen.triu(seq_len - query_len - window + 1)
        exact = scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=seen, scale=0.4, enable_gqa=True
        )[0]
        torch.testing.assert_close(out[rows], exact.transpose(0, 1).float())
        scores = (q @ k.repeat_interleave(3, 0).transpose(1, 2)) * 0.4
        sums = scores.masked_fill(~seen, -torch.inf).exp().sum(-1).log()
        torch.testing.assert_close(lse[rows], sums.T.float())


def test_requests_below_the_minimum_are_left_alone() -> None:
    caches = torch.randn(2, 4, BLOCK_SIZE, 1, 8)
    out = torch.full((7, 2, 8), -1.0)
    step = batch([2, 5], [2, 5], torch.tensor([[1, 0], [2, 3]]))
    prefill_attention(torch.randn(7, 2, 8), *caches, step, scale=1.0, min_query_len=3, out=out)
    assert (out[:2] == -1).all()
    assert (out[2:] != -1).all()


def test_nothing_is_launched_when_no_request_can_be_long_enough() -> None:
    caches = torch.randn(2, 4, BLOCK_SIZE, 1, 8)
    out = torch.full((2, 2, 8), -1.0)
    step = batch([2], [2], torch.tensor([[1]]))
    prefill_attention(torch.randn(2, 2, 8), *caches, step, scale=1.0, min_query_len=3, out=out)
    assert (out == -1).all()


def refused(match: str, **changes: object) -> None:
    step = batch([2], [2], torch.tensor([[1]]))
    caches = torch.randn(2, 4, BLOCK_SIZE, 2, 8)
    arguments = {
        "query": torch.randn(2, 4, 8), "key_cache": caches[0], "value_cache": caches[1],
        "batch": step, "scale": 1.0,
    } | changes  # fmt: skip
    with pytest.raises(ValueError, match=match):
        prefill_attention(**arguments)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused() -> None:
    caches = torch.randn(4, BLOCK_SIZE, 2, 8)
    refused("scale must be positive", scale=0.0)
    refused("query must be", query=torch.randn(2, 32))
    refused("no multiple", query=torch.randn(2, 3, 8))
    refused("both caches", value_cache=caches[:3])
    refused("do not fit", key_cache=caches[:, :2], value_cache=caches[:, :2])
    refused("do not fit", query=torch.randn(2, 4, 16))
    refused("quantized", key_cache=caches.half(), value_cache=caches.half())
    refused("must agree", out=torch.randn(2, 4, 4))
    refused("contiguous dimension", query=torch.randn(2, 8, 4).mT)
    refused("contiguous dimension", out=torch.randn(2, 8, 4).mT)
    refused("pass it contiguous", lse=torch.empty(4, 2).mT)
    refused("lse must be", lse=torch.empty(2, 3))
    refused("lse must be", lse=torch.empty(2, 4, dtype=torch.float16))
