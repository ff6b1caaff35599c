"""Steps of `rope_and_cache` with random inputs and an exact answer, and what must hold of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shoal.kernels.kv_quantization import decode_torch
from shoal.kernels.rope_and_cache import rope_and_cache, rope_and_cache_torch
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand

EPS = 1e-5


class Step:
    """Inputs of one call, and an exact answer."""

    def __init__(
        self,
        device: torch.device,
        *,
        num_tokens: int = 3,
        num_q_heads: int = 4,
        num_kv_heads: int = 2,
        head_dim: int = 16,
        dtype: torch.dtype = torch.float32,
        qk_norm: bool = False,
        heads_outside: bool = False,
        block_size: int = 4,
        seed: int = 0,
    ) -> None:
        self.heads = {"num_q_heads": num_q_heads, "num_kv_heads": num_kv_heads}
        self.block_size = block_size
        num_blocks = -(-num_tokens // block_size) + 2
        self.kv_shape = (num_blocks, block_size, num_kv_heads, head_dim)
        self.num_slots = num_blocks * block_size
        self.heads_outside = heads_outside
        self.device, self.head_dim = device, head_dim
        width = (num_q_heads + 2 * num_kv_heads) * head_dim
        self.qkv = rand(num_tokens, width, device=device, dtype=dtype, seed=seed)
        angles = 9 * rand(num_tokens, head_dim // 2, device=device, seed=seed + 1)
        cos, sin = angles.cos(), angles.sin()
        self.cos, self.sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        order = torch.randperm(self.num_slots, generator=torch.Generator().manual_seed(seed + 2))
        self.slots = order[:num_tokens].to(device)
        norms = [rand(head_dim, device=device, dtype=dtype, seed=seed + i) for i in (3, 4)]
        self.norms = dict(zip(("q_norm", "k_norm"), norms, strict=True)) if qk_norm else {}

    def cache(self, dtype: torch.dtype) -> Tensor:
        """Unused slots hold NaN (int8: -128, which is never written)."""
        blocks, offsets, heads, dim = self.kv_shape
        shape = (blocks, heads, offsets, dim) if self.heads_outside else self.kv_shape
        poison = -128 if dtype == torch.int8 else float("nan")
        cache = torch.full(shape, poison, dtype=torch.float32, device=self.device).to(dtype)
        return cache.transpose(1, 2) if self.heads_outside else cache

    def run(self, body, caches: tuple[Tensor, Tensor], **scales: Tensor) -> Tensor:
        arguments = {"k_scale": None, "v_scale": None, "q_norm": None, "k_norm": None}
        arguments |= {**self.norms, **scales}
        return body(
            self.qkv, self.cos, self.sin, *caches, self.slots, **self.heads, eps=EPS, **arguments
        )

    def exact(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values in fp64."""
        sizes = (self.heads["num_q_heads"], self.heads["num_kv_heads"], self.kv_shape[2])
        heads = self.qkv.double().view(self.qkv.shape[0], sizes[0] + 2 * sizes[1], self.head_dim)
        query, key, value = heads.split(sizes, dim=1)
        half = self.head_dim // 2
        turn = torch.polar(
            torch.ones_like(self.cos[:, :half]).double(),
            torch.atan2(self.sin[:, half:].double(), self.cos[:, half:].double()),
        )[:, None]
        rotated = []
        for x, name in ((query, "q_norm"), (key, "k_norm")):
            if self.norms:
                x = x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * self.norms[name].double()
            pairs = torch.complex(x[..., :half], x[..., half:]) * turn
            rotated.append(torch.cat((pairs.real, pairs.imag), -1))
        return *rotated, value

    def written(self, cache: Tensor, scale: Tensor | None = None) -> Tensor:
        """What the tokens' slots hold."""
        slots = self.slots[self.slots >= 0]
        places = (slots // self.block_size, slots % self.block_size)
        if scale is not None and scale.dim() == 3:
            scale = scale[places]
        if cache.dtype.itemsize == 1:
            codes = cache.view(torch.uint8)[places].view(cache.dtype)
            return decode_torch(codes, scale)
        values = cache[places]
        return values if scale is None else decode_torch(values, scale)


def check(
    step: Step, cache_dtype: torch.dtype, scales_of: Callable[[], dict[str, Tensor]] = dict
) -> None:
    """`scales_of` makes the scales anew for each body, as some are written."""
    caches = (step.cache(cache_dtype), step.cache(cache_dtype))
    scales = scales_of()
    query = step.run(rope_and_cache, caches, **scales)
    torch_caches = (step.cache(cache_dtype), step.cache(cache_dtype))
    torch_scales = scales_of()
    torch_query = step.run(rope_and_cache_torch, torch_caches, **torch_scales)
    exact_query, *exact_kv = step.exact()
    assert_as_exact_as(torch_query, query, exact_query)
    kept = step.slots >= 0
    for cache, torch_cache, exact, name in zip(
        caches, torch_caches, exact_kv, ("k_scale", "v_scale"), strict=True
    ):
        assert_as_exact_as(
            step.written(torch_cache, torch_scales.get(name)),
            step.written(cache, scales.get(name)),
            exact[kept],
        )
        unwritten = torch.ones(step.num_slots, dtype=torch.bool, device=cache.device)
        unwritten[step.slots[kept]] = False
        rest = cache.float().flatten(0, 1).flatten(1)[unwritten]
        assert (rest == -128).all() if cache_dtype == torch.int8 else rest.isnan().all()
