"""Operations of attention: RoPE with the cache write, paged attention, merges of its parts."""

from __future__ import annotations

import torch
from torch import Tensor

from shoal.kernels.quantize_rows import CODE_MAX
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.rope_case import Step, check

NARROW = list(CODE_MAX)


def rope(draw: Draw) -> None:
    dtype = draw.float_dtype()
    kv_heads = draw.size("num_kv_heads", 3, gpu=16, least=1)
    step = Step(
        draw.device,
        num_tokens=draw.size("num_tokens", 6, gpu=300),
        num_q_heads=kv_heads * draw.size("group", 3, gpu=9, least=1),
        num_kv_heads=kv_heads,
        head_dim=2 * draw.size("half", 20, gpu=130, least=1),
        dtype=dtype,
        qk_norm=draw.flag("qk_norm"),
        heads_outside=draw.flag("heads_outside"),
        block_size=draw.size("block_size", 17, gpu=64, least=1),
        seed=draw.seed % 2**40,
    )
    for index in draw.integers(draw.size("padding", 2), 0, max(step.slots.numel() - 1, 0)):
        step.slots[index : index + 1] = -1
    cache_dtype = draw.pick("cache", [dtype, *NARROW])
    scales = "none" if cache_dtype == dtype else draw.pick("scales", ("head", "token"))

    def scales_of() -> dict[str, Tensor]:
        shape = {"none": (), "head": (kv_heads,), "token": step.kv_shape[:3]}[scales]
        if not shape:
            return {}
        value = 6.0 / CODE_MAX[cache_dtype] if scales == "head" else -1.0
        return {
            name: torch.full(shape, value, device=draw.device) for name in ("k_scale", "v_scale")
        }

    check(step, cache_dtype, scales_of)
