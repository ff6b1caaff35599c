"""Steps of paged attention with random K and V, and NaN wherever nothing may be read."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.kv_quantization import (
    dynamic_scales_torch,
    encode_torch,
    is_quantized,
)
from shoal.kernels.ragged_batch import RaggedBatch

Requests = list[tuple[int, int]]
"""(query_len, seq_len) of each request; (0, 0) is padding."""


class AttentionCase:
    """Requests in permuted blocks of a cache that is NaN (int8: its largest code) elsewhere."""

    def __init__(
        self,
        requests: Requests,
        device: torch.device,
        *,
        num_kv_heads: int = 1,
        group: int = 3,
        head_dim: int = 16,
        block_size: int = 4,
        dtype: torch.dtype = torch.float16,
        cache_dtype: torch.dtype | None = None,
        scales: str = "none",
        window: int | None = None,
        softcap: float | None = None,
        sinks: bool = False,
        heads_first: bool = False,
        shared_blocks: int = 0,
        extra_tokens: int = 0,
        seed: int = 0,
    ) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.requests, self.window, self.group = requests, window, group
        self.block_size, self.softcap, self.dtype = block_size, softcap, dtype
        self.scale = head_dim**-0.5
        cache_dtype = cache_dtype or dtype
        widths = [-(-n // block_size) for _, n in requests]
        num_blocks = sum(widths) + 5
        shape = kv_cache_shape(num_blocks, block_size, num_kv_heads, head_dim)
        caches = [torch.full(shape, 127.0 if cache_dtype == torch.int8 else math.nan) for _ in "kv"]
        caches = [c.to(cache_dtype) for c in caches]
        slot_scales = [torch.full(shape[:3], math.nan) for _ in "kv"]
        head_scales = [torch.rand(num_kv_heads, generator=rng) * 0.02 + 0.01 for _ in "kv"]
        free = (torch.randperm(num_blocks - 1, generator=rng) + 1).tolist()
        tables = torch.zeros(len(requests), max(widths, default=0) + 2, dtype=torch.int32)
        shared = [free.pop() for _ in range(shared_blocks)]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        slots = []
        prefix = torch.randn(2, shared_blocks * block_size, num_kv_heads, head_dim, generator=rng)
        for row, (query_len, seq_len) in enumerate(requests):
            oldest = 0 if window is None else max(seq_len - query_len - window + 1, 0)
            first_block = oldest // block_size
            for i in range(widths[row]):
                # Blocks that have left the window belong to somebody else by now.
                own = shared[i] if i < shared_blocks else free.pop()
                tables[row, i] = own if i >= first_block else 999_999
            held = torch.arange(first_block * block_size, seq_len)
            blocks, offsets = tables[row, held // block_size].long(), held % block_size
            stored = []
            for which in range(2):
                new = torch.randn(seq_len, num_kv_heads, head_dim, generator=rng)
                new[: prefix.shape[1]] = prefix[which][:seq_len]
                new = new.to(dtype)
                if not is_quantized(cache_dtype):
                    caches[which][blocks, offsets] = new[held]
                    stored.append(new.double())
                    continue
                scale = None
                if scales == "token":
                    scale = dynamic_scales_torch(new, cache_dtype)
                    slot_scales[which][blocks, offsets] = scale[held]
                elif scales == "head":
                    scale = head_scales[which].expand(seq_len, num_kv_heads)
                codes = encode_torch(new, scale, cache_dtype)
                caches[which][blocks, offsets] = codes[held]
                # What is stored is exact: only attention's own error counts.
                wide = None if scale is None else scale.double()
                stored.append(codes.double() if wide is None else codes.double() * wide[..., None])
            self.keys.append(stored[0].to(device))
            self.values.append(stored[1].to(device))
            slots.append(
                blocks[-query_len:] * block_size + offsets[-query_len:] if query_len else held[:0]
            )
        num_tokens = sum(q for q, _ in requests)
        heads = num_kv_heads * group
        self.query = torch.randn(num_tokens + extra_tokens, heads, head_dim, generator=rng)
        self.query = self.query.to(dtype).to(device)
        self.key_cache, self.value_cache = (c.to(device) for c in caches)
        if heads_first:
            self.key_cache, self.value_cache = (
                c.transpose(1, 2).contiguous().transpose(1, 2)
                for c in (self.key_cache, self.value_cache)
            )
        self.k_scale = self.v_scale = None
        if scales == "head":
            self.k_scale, self.v_scale = (s.to(device) for s in head_scales)
        elif scales == "token":
            self.k_scale, self.v_scale = (s.to(device) for s in slot_scales)
        self.sinks = torch.randn(heads, generator=rng).to(device) if sinks else None
        starts = torch.tensor([0, *(q for q, _ in requests)]).cumsum(0)
        padding = torch.full((extra_tokens,), -1)
        self.batch = RaggedBatch(
            query_start_loc=starts.to(torch.int32).to(device),
            seq_lens=torch.tensor([n for _, n in requests], dtype=torch.int32).to(device),
            block_tables=tables.to(device),
            slot_mapping=torch.cat([*slots, padding]).to(device),
            block_size=block_size,
            max_query_len=max((q for q, _ in requests), default=0),
            max_seq_len=max((n for _, n in requests), default=0),
            sliding_window=window,
        )

    def options(self) -> dict[str, object]:
        """Keyword arguments of `ragged_paged_attention`."""
        return {
            "scale": self.scale,
            "softcap": self.softcap,
            "sinks": self.sinks,
            "k_scale": self.k_scale,
            "v_scale": self.v_scale,
        }

    def formula(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Attention as torch computes it in `dtype`, request by request: output and log-sum-exp.

        Products are in `dtype`, the softmax in fp32, as in torch's own attention. In fp64 it is
        exact.
        """
        wide = torch.promote_types(dtype, torch.float32)
        outs, lses, start = [], [], 0
        for (query_len, seq_len), keys, values in zip(
            self.requests, self.keys, self.values, strict=True
        ):
            query = self.query[start : start + query_len].to(dtype)
            start += query_len
            key = keys.to(dtype).repeat_interleave(self.group, dim=1)
            value = values.to(dtype).repeat_interleave(self.group, dim=1)
            scores = torch.einsum("qhd,khd->hqk", query, key).to(wide) * self.scale
            if self.softcap is not None:
                scores = self.softcap * torch.tanh(scores / self.softcap)
            at = torch.arange(seq_len - query_len, seq_len, device=query.device)[:, None]
            position = torch.arange(seq_len, device=query.device)
            hidden = position > at
            if self.window is not None:
                hidden |= position <= at - self.window
            scores = scores.masked_fill(hidden, -math.inf)
            if self.sinks is not None:
                sink = self.sinks.to(wide)[:, None, None].expand(-1, query_len, 1)
                scores = torch.cat([scores, sink], dim=-1)
            weights = scores.softmax(-1)[..., :seq_len].to(dtype)
            outs.append(torch.einsum("hqk,khd->qhd", weights, value))
            lses.append(scores.logsumexp(-1).T)
        if not outs:
            return self.query.to(dtype)[:0], self.query.to(wide)[:0, :, 0]
        return torch.cat(outs), torch.cat(lses)
