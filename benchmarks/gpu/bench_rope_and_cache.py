"""RoPE and cache write in Llama-3.1-8B's shape, and with Qwen3's norms, in every type of cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.rope_and_cache import rope_and_cache, rope_and_cache_torch

from .case import Case

Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE = 32, 8, 128, 16
TARGET = 0.85


def cases(device: torch.device) -> Iterator[Case]:
    for cache, norms in (("bf16", False), ("bf16", True), ("fp8", False), ("int8", False)):
        yield _case(device, 4096, 4, cache, norms)
    for cache in ("bf16", "fp8"):
        yield _case(device, 64, 1, cache, False)


def _case(device: torch.device, num_tokens: int, sets: int, cache: str, norms: bool) -> Case:
    dtype = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8}[cache]
    width = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM
    qkv = [torch.randn(num_tokens, width, device=device).bfloat16() for _ in range(sets)]
    angles = torch.randn(num_tokens, HEAD_DIM // 2, device=device)
    cos, sin = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), -1)
    # Requests of 1,024 tokens, their blocks anywhere in a cache that is twice as large.
    num_blocks = 2 * -(-num_tokens // BLOCK_SIZE)
    slots = torch.arange(num_blocks * BLOCK_SIZE, device=device).view(num_blocks, BLOCK_SIZE)
    slots = slots[torch.randperm(num_blocks, device=device)].reshape(-1)[:num_tokens].contiguous()
    shape = (num_blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM)
    caches = [[torch.zeros(shape, device=device).to(dtype) for _ in "kv"] for _ in range(sets)]
    scales: dict[str, Tensor | None] = {"k_scale": None, "v_scale": None}
    if cache != "bf16":
        scales = {name: torch.zeros(shape[:3], device=device) for name in scales}
    weight = torch.randn(HEAD_DIM, device=device).bfloat16() if norms else None
    kept: list[Tensor | None] = [None] * sets

    def run(i: int, body: object = rope_and_cache) -> None:
        assert callable(body)
        kept[i] = body(
            qkv[i],
            cos,
            sin,
            *caches[i],
            slots,
            num_q_heads=Q_HEADS,
            num_kv_heads=KV_HEADS,
            q_norm=weight,
            k_norm=weight,
            eps=1e-6,
            **scales,
        )

    entry = dtype.itemsize
    kv_entries = num_tokens * 2 * KV_HEADS * HEAD_DIM
    return Case(
        name=f"rope_and_cache/{num_tokens}-{cache}{'-qk_norm' if norms else ''}",
        call=run,
        # cos and sin: one half of each is read. Scales: one fp32 for each token and head.
        bytes_moved=num_tokens * (width * 2 + Q_HEADS * HEAD_DIM * 2 + HEAD_DIM * 4 + 8)
        + kv_entries * entry
        + (kv_entries // HEAD_DIM * 4 if entry == 1 else 0),
        num_inputs=sets,
        peers={"torch, many kernels": lambda i: run(i, rope_and_cache_torch)},
        target=TARGET if num_tokens >= 4096 else None,
    )
