"""MLA decode's meaning in torch against attention with the projections not absorbed."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from shoal.kernels.mla_decode import mla_decode

BLOCK_SIZE, LATENT, ROPE, HEAD, HEADS = 4, 12, 6, 8, 3


def test_it_is_attention_over_expanded_keys_and_values() -> None:
    """DeepSeek-V2, eq. 9-11 and appendix C: k_h = [U_h c; r], v_h = W_h c for each cached c, r."""
    torch.manual_seed(1)
    seq_len, tables = 11, torch.tensor([[4, 0, 2]])
    rows = torch.randn(seq_len, LATENT + ROPE, dtype=torch.float64)
    cache = torch.full((5, BLOCK_SIZE, LATENT + ROPE), math.nan, dtype=torch.float64)
    at = torch.arange(seq_len)
    cache[tables[0, at // BLOCK_SIZE], at % BLOCK_SIZE] = rows
    up_key = torch.randn(HEADS, HEAD, LATENT, dtype=torch.float64)
    up_value = torch.randn(HEADS, HEAD, LATENT, dtype=torch.float64)
    query = torch.randn(HEADS, HEAD, dtype=torch.float64)
    query_rope = torch.randn(HEADS, ROPE, dtype=torch.float64)
    scale = (HEAD + ROPE) ** -0.5

    latent, rope = rows.split([LATENT, ROPE], dim=1)
    keys = torch.cat(
        [torch.einsum("hdl,sl->hsd", up_key, latent), rope.expand(HEADS, -1, -1)], dim=2
    )
    values = torch.einsum("hdl,sl->hsd", up_value, latent)
    whole = torch.cat([query, query_rope], dim=1)[:, None]
    expanded = scaled_dot_product_attention(whole, keys, values, scale=scale)[:, 0]

    absorbed = torch.cat([torch.einsum("hd,hdl->hl", query, up_key), query_rope], dim=1)
    out, lse = mla_decode(
        absorbed[None], cache, tables.int(), torch.tensor([seq_len], dtype=torch.int32),
        value_dim=LATENT, scale=scale, max_seq_len=seq_len, return_lse=True,
    )  # fmt: skip
    torch.testing.assert_close(torch.einsum("hdl,hl->hd", up_value, out[0]), expanded)
    sums = (torch.einsum("hqd,hsd->hs", whole, keys) * scale).exp().sum(1).log()
    torch.testing.assert_close(lse[0], sums.float())


def test_padding_gives_zeros() -> None:
    out, lse = mla_decode(
        torch.randn(2, 3, 8), torch.full((2, 4, 8), math.nan), torch.zeros(2, 1).int(),
        torch.zeros(2).int(), value_dim=4, scale=1.0, max_seq_len=4, return_lse=True,
    )  # fmt: skip
    assert (out == 0).all()
    assert (lse == -math.inf).all()


def test_an_empty_batch() -> None:
    out = mla_decode(
        torch.randn(0, 3, 8), torch.randn(2, 4, 8), torch.zeros(0, 1).int(), torch.zeros(0).int(),
        value_dim=4, scale=1.0, max_seq_len=0,
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)
    assert out.shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("query must be", {"query": torch.randn(2, 8)}),
        ("query must be", {"query": torch.randn(2, 3, 9)}),
        ("convert the queries", {"query": torch.randn(2, 3, 8).half()}),
        ("scale must be positive", {"scale": 0.0}),
        ("key_dim is the contiguous", {"query": torch.randn(2, 8, 3).mT}),
        ("value_dim", {"value_dim": 9}),
        ("value_dim", {"value_dim": 0}),
        ("queries, but block_tables", {"block_tables": torch.zeros(1, 1).int()}),
        ("queries, but block_tables", {"seq_lens": torch.zeros(3).int()}),
        ("block_tables must be int32", {"block_tables": torch.zeros(2, 1).long()}),
        ("seq_lens must be int32", {"seq_lens": torch.zeros(2).long()}),
        ("more than block_tables", {"max_seq_len": 5}),
        ("out must be", {"out": torch.randn(2, 3, 8)}),
        ("value_dim is the contiguous", {"out": torch.randn(2, 4, 3).mT}),
    ],
)
def test_what_does_not_fit_is_refused(match: str, changes: dict[str, object]) -> None:
    arguments: dict[str, object] = {
        "query": torch.randn(2, 3, 8), "latent_cache": torch.randn(2, 4, 8),
        "block_tables": torch.zeros(2, 1).int(), "seq_lens": torch.zeros(2).int(),
        "value_dim": 4, "scale": 1.0, "max_seq_len": 4,
    }  # fmt: skip
    with pytest.raises(ValueError, match=match):
        mla_decode(**(arguments | changes))  # type: ignore[arg-type]
