"""Low-rank adapters (LoRA, Hu et al., 2021), many in one batch.

Tokens are sorted by adapter once a step, and each layer's two thin products then read every
adapter's weights once: the idea of Punica's SGMV (Chen et al., 2023) and of S-LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .dispatch import uses_triton
from .moe_routing import TokenPermutation, permute_tokens

MAX_RANK = 128
TOKENS_PER_BLOCK = 16
"""Tokens of one adapter that a program handles: the least that fills a matrix unit's tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraMapping:
    """Which adapter each token of a step wants; made once a step, used by every layer."""

    token_adapters: Tensor
    """[num_tokens] int32, -1: none."""
    permutation: TokenPermutation
    """The tokens sorted by adapter."""


def lora_mapping(token_adapters: Tensor, *, num_adapters: int) -> LoraMapping:
    """Sort the tokens of a step by adapter, on the device.

    token_adapters: [num_tokens] int32 of 0 to num_adapters - 1; anything else: no adapter.
    """
    if token_adapters.dim() != 1 or token_adapters.dtype != torch.int32:
        raise ValueError(
            "token_adapters must be int32 [num_tokens],"
            f" not {token_adapters.dtype} {list(token_adapters.shape)}"
        )
    return LoraMapping(
        token_adapters=token_adapters,
        permutation=permute_tokens(
            token_adapters, num_experts=num_adapters, block_m=TOKENS_PER_BLOCK
        ),
    )


def add_lora(
    out: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    *,
    mapping: LoraMapping,
    ranks: Tensor,
    slice_sizes: Sequence[int],
) -> Tensor:
    """out[t, slice s] += B[a, s] @ (A[a, s] @ x[t]) with a = the adapter of token t, in place.

    out: [num_tokens, sum(slice_sizes)] bf16, fp16 or fp32, what the layer's own weight gave; x:
    [num_tokens, dim] of the same dtype; lora_a: [num_adapters, num_slices, max_rank, dim]; lora_b:
    [num_adapters, sum(slice_sizes), max_rank], scaled (alpha / rank) when it was loaded; ranks:
    [num_adapters] int32, at most max_rank: what lies beyond an adapter's rank is not read. A layer
    made of several projections (q, k, v; gate, up) has one slice for each. max_rank is 8 to 128, a
    multiple of 8. The intermediate A @ x is fp32 between the two products. Tokens without an
    adapter keep their `out`. Returns out.

    A token's result depends on its own values only, and on the launch bucket of num_tokens.
    """
    _check(out, x, lora_a, lora_b, mapping, ranks, slice_sizes)
    if x.shape[0] and uses_triton(x):
        from .triton.lora import add_lora as add_lora_triton

        return add_lora_triton(out, x, lora_a, lora_b, mapping, ranks, tuple(slice_sizes))
    return add_lora_torch(
        out, x, lora_a, lora_b, mapping=mapping, ranks=ranks, slice_sizes=slice_sizes
    )


def add_lora_torch(
    out: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    *,
    mapping: LoraMapping,
    ranks: Tensor,
    slice_sizes: Sequence[int],
) -> Tensor:
    """The meaning of `add_lora`."""
    for adapter in range(lora_a.shape[0]):
        tokens = (mapping.token_adapters == adapter).nonzero().flatten()
        rank = int(ranks[adapter])
        if not len(tokens) or not rank:
            continue
        rows = x[tokens].float()
        start = 0
        for index, size in enumerate(slice_sizes):
            shrunk = rows @ lora_a[adapter, index, :rank].float().t()
            expanded = shrunk @ lora_b[adapter, start : start + size, :rank].float().t()
            columns = slice(start, start + size)
            out[tokens, columns] = (out[tokens, columns].float() + expanded).to(out.dtype)
            start += size
    return out


def _check(
    out: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    mapping: LoraMapping,
    ranks: Tensor,
    slice_sizes: Sequence[int],
) -> None:
    if x.dim() != 2 or lora_a.dim() != 4 or lora_b.dim() != 3:
        raise ValueError(
            "add_lora takes x [num_tokens, dim], lora_a [num_adapters, num_slices, max_rank, dim]"
            " and lora_b [num_adapters, out_dim, max_rank]; not"
            f" {list(x.shape)}, {list(lora_a.shape)}, {list(lora_b.shape)}"
        )
    num_tokens, dim = x.shape
    num_adapters, _, max_rank, _ = lora_a.shape
    out_dim = sum(slice_sizes)
    if not 8 <= max_rank <= MAX_RANK or max_rank % 8:
        raise ValueError(f"max_rank must be 8 to {MAX_RANK} and a multiple of 8, not {max_rank}")
    for name, tensor, shape in (
        ("out", out, (num_tokens, out_dim)),
        ("lora_a", lora_a, (num_adapters, len(slice_sizes), max_rank, dim)),
        ("lora_b", lora_b, (num_adapters, out_dim, max_rank)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, not {list(tensor.shape)}")
        if tensor.dtype != x.dtype:
            raise ValueError(f"{name} must be of x's dtype {x.dtype}, not {tensor.dtype}")
    if ranks.dtype != torch.int32 or ranks.shape != (num_adapters,):
        raise ValueError(
            f"ranks must be int32 [{num_adapters}], not {ranks.dtype} {list(ranks.shape)}"
        )
    if mapping.token_adapters.shape != (num_tokens,):
        raise ValueError(
            f"the mapping is of {mapping.token_adapters.shape[0]} tokens, x has {num_tokens}"
        )
