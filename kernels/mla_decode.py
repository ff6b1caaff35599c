"""Decode attention of DeepSeek's multi-head latent attention over a paged cache of latents.

DeepSeek-V2 (2024) caches one vector a token for all heads: a latent c of `value_dim` numbers
(512) and a rotary part of 64. With the up-projections absorbed into the query and the output, every
head attends to the same row: it is the key, and its first `value_dim` numbers are the value. So a
decode reads each row once for all heads, and does enough arithmetic with it (2 * num_heads * (576 +
512) FLOPs for 1,152 bytes in bf16: 242 FLOPs a byte at 128 heads) to be near the ridge of an H100.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton


def mla_decode(
    query: Tensor,
    latent_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    *,
    value_dim: int,
    scale: float,
    max_seq_len: int,
    out: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q @ rows^T) @ rows[:, :value_dim] for one query token a sequence.

    query: [num_seqs, num_heads, key_dim], the absorbed query and its rotary part, e.g. 512 + 64;
    latent_cache: [num_blocks, block_size, key_dim], of query's dtype, the last dimension of both
    contiguous; block_tables: [num_seqs, max_blocks] int32; seq_lens: [num_seqs] int32, the rows of
    each sequence with that of this token, 0 for padding. `max_seq_len` bounds seq_lens on the host:
    the grid comes from it.

    Returns [num_seqs, num_heads, value_dim] in query's dtype, and with `return_lse` the natural log
    of the softmax denominator, [num_seqs, num_heads] fp32. A padding sequence gets zeros and -inf.
    A sequence's result does not depend on its neighbours: the keys are split at fixed places.
    """
    _check(query, latent_cache, block_tables, seq_lens, value_dim, scale, max_seq_len)
    num_seqs, num_heads, _ = query.shape
    if out is None:
        out = query.new_empty((num_seqs, num_heads, value_dim))
    elif out.shape != (num_seqs, num_heads, value_dim) or out.dtype != query.dtype:
        raise ValueError(
            f"mla_decode: out must be {query.dtype} {[num_seqs, num_heads, value_dim]},"
            f" not {out.dtype} {tuple(out.shape)}"
        )
    elif out.stride(2) != 1:
        raise ValueError("mla_decode: value_dim is the contiguous dimension of out")
    lse = query.new_empty((num_seqs, num_heads), dtype=torch.float32)
    if num_seqs:
        if uses_triton(query):
            from .triton.mla_decode import mla_decode_triton

            mla_decode_triton(
                query, latent_cache, block_tables, seq_lens, scale, max_seq_len, out, lse
            )
        else:
            mla_decode_torch(query, latent_cache, block_tables, seq_lens, scale, out, lse)
    return (out, lse) if return_lse else out


def mla_decode_torch(
    query: Tensor,
    latent_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor,
    lse: Tensor,
) -> None:
    """What `mla_decode` means, sequence by sequence: softmax in fp32 (fp64 for fp64 queries)."""
    wide = torch.promote_types(query.dtype, torch.float32)
    block_size, value_dim = latent_cache.shape[1], out.shape[2]
    for i, seq_len in enumerate(seq_lens.tolist()):
        if not seq_len:
            out[i], lse[i] = 0, float("-inf")
            continue
        blocks = block_tables[i, : -(-seq_len // block_size)].long()
        rows = latent_cache[blocks].flatten(0, 1)[:seq_len]
        scores = (query[i] @ rows.T).to(wide) * scale
        out[i] = scores.softmax(-1).to(rows.dtype) @ rows[:, :value_dim]
        lse[i] = scores.logsumexp(-1)


def _check(
    query: Tensor,
    latent_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    value_dim: int,
    scale: float,
    max_seq_len: int,
) -> None:
    if not scale > 0:
        raise ValueError(f"mla_decode: scale must be positive, not {scale}")
    if query.dim() != 3 or latent_cache.dim() != 3 or query.shape[2] != latent_cache.shape[2]:
        raise ValueError(
            "mla_decode: query must be [num_seqs, num_heads, key_dim] and latent_cache [num_blocks,"
            f" block_size, key_dim], not {tuple(query.shape)} and {tuple(latent_cache.shape)}"
        )
    if latent_cache.dtype != query.dtype:
        raise ValueError(
            f"mla_decode: the cache holds {latent_cache.dtype}, queries are {query.dtype};"
            " convert the queries"
        )
    if query.stride(2) != 1 or latent_cache.stride(2) != 1:
        raise ValueError("mla_decode: key_dim is the contiguous dimension of query and cache")
    if not 0 < value_dim <= query.shape[2]:
        raise ValueError(
            f"mla_decode: value_dim {value_dim} is not in 1..{query.shape[2]}, the key's width"
        )
    num_seqs = query.shape[0]
    if block_tables.dim() != 2 or block_tables.shape[0] != num_seqs or seq_lens.numel() != num_seqs:
        raise ValueError(
            f"mla_decode: {num_seqs} queries, but block_tables {tuple(block_tables.shape)} and"
            f" seq_lens {tuple(seq_lens.shape)}"
        )
    for name, tensor in (("block_tables", block_tables), ("seq_lens", seq_lens)):
        if tensor.dtype != torch.int32:
            raise ValueError(f"mla_decode: {name} must be int32, not {tensor.dtype}")
    if max_seq_len > block_tables.shape[1] * latent_cache.shape[1]:
        raise ValueError(
            f"mla_decode: max_seq_len {max_seq_len} is more than block_tables have room for"
            f" ({block_tables.shape[1]} blocks of {latent_cache.shape[1]})"
        )
