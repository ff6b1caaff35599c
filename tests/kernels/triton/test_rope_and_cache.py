"""One pass of norm, rotation and cache write against the same in fp64, beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.quantize_rows import CODE_MAX
from shoal.kernels.rope_and_cache import rope_and_cache
from tests.kernels.triton.rope_case import Step, check
from tests.kernels.triton.row_data import DTYPES, rand


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("heads_outside", [False, True])
def test_in_the_dtype_of_the_model(
    heads_outside: bool, qk_norm: bool, dtype: torch.dtype, device: torch.device
) -> None:
    check(Step(device, dtype=dtype, qk_norm=qk_norm, heads_outside=heads_outside), dtype)


@pytest.mark.parametrize(
    ("num_tokens", "num_q_heads", "num_kv_heads", "head_dim"),
    [(1, 1, 1, 2), (2, 9, 3, 64), (1, 5, 5, 80), (11, 3, 1, 6), (4, 4, 4, 128)],
)
def test_odd_shapes(
    num_tokens: int, num_q_heads: int, num_kv_heads: int, head_dim: int, device: torch.device
) -> None:
    step = Step(
        device,
        num_tokens=num_tokens,
        num_q_heads=num_q_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qk_norm=True,
    )
    check(step, torch.float32)


def test_no_token(device: torch.device) -> None:
    step = Step(device, num_tokens=0)
    caches = (step.cache(torch.float32), step.cache(torch.float32))
    assert step.run(rope_and_cache, caches).shape == (0, 4, 16)


@pytest.mark.parametrize("cache_dtype", list(CODE_MAX))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads_outside", [False, True])
def test_quantized_by_head(
    heads_outside: bool, dtype: torch.dtype, cache_dtype: torch.dtype, device: torch.device
) -> None:
    step = Step(device, dtype=dtype, heads_outside=heads_outside)
    largest = 5.0 / CODE_MAX[cache_dtype]
    scales = {
        "k_scale": torch.tensor([largest, 2 * largest], device=device),
        "v_scale": torch.tensor([1.5 * largest, largest], device=device),
    }
    check(step, cache_dtype, lambda: scales)


@pytest.mark.parametrize("cache_dtype", list(CODE_MAX))
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantized_by_token(
    dtype: torch.dtype, cache_dtype: torch.dtype, device: torch.device
) -> None:
    step = Step(device, dtype=dtype, qk_norm=True)
    shape = step.kv_shape[:3]

    def scales() -> dict[str, Tensor]:
        return {n: torch.full(shape, -1.0, device=device) for n in ("k_scale", "v_scale")}

    check(step, cache_dtype, scales)
    written = scales()
    step.run(rope_and_cache, (step.cache(cache_dtype), step.cache(cache_dtype)), **written)
    for scale in written.values():
        assert int((scale > 0).sum()) == step.slots.numel() * 2
        assert int((scale == -1).sum()) == (step.num_slots - step.slots.numel()) * 2


@pytest.mark.parametrize("cache_dtype", [torch.float8_e4m3fn, torch.int8])
def test_what_is_beyond_a_static_scale_saturates(
    cache_dtype: torch.dtype, device: torch.device
) -> None:
    step = Step(device)
    scale = torch.full((2,), 1e-3, device=device)
    value_cache = step.cache(cache_dtype)
    caches = (step.cache(cache_dtype), value_cache)
    step.run(rope_and_cache, caches, k_scale=scale, v_scale=scale)
    codes = step.written(value_cache)
    assert codes.abs().max() == CODE_MAX[cache_dtype]
    assert torch.equal(codes.sign(), step.exact()[2].sign().float())


def test_zeros_have_a_scale_too(device: torch.device) -> None:
    step = Step(device)
    step.qkv.zero_()
    scales = {n: torch.zeros(step.kv_shape[:3], device=device) for n in ("k_scale", "v_scale")}
    caches = (step.cache(torch.int8), step.cache(torch.int8))
    step.run(rope_and_cache, caches, **scales)
    for cache, scale in zip(caches, scales.values(), strict=True):
        assert not step.written(cache, scale).any()
        assert int((scale > 0).sum()) == step.slots.numel() * 2


def test_padding_is_rotated_but_written_nowhere(device: torch.device) -> None:
    step = Step(device, num_tokens=9)
    step.slots[[0, 4, 8]] = -1
    check(step, torch.float32)


def test_qkv_with_a_stride_is_read_in_place(device: torch.device) -> None:
    step = Step(device)
    width = step.qkv.shape[1]
    wide = torch.full((step.qkv.shape[0], width + 24), float("nan"), device=device)
    wide[:, :width] = step.qkv
    step.qkv = wide[:, :width]
    check(step, torch.float32)


def test_slots_may_have_a_stride(device: torch.device) -> None:
    step = Step(device)
    step.slots = step.slots.repeat_interleave(2)[::2]
    check(step, torch.float32)


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device: torch.device) -> None:
    blocks = 2**17 + 1
    caches = [torch.zeros(blocks, 16, 8, 128, dtype=torch.bfloat16, device=device) for _ in "kv"]
    qkv = rand(1, 48 * 128, device=device, dtype=torch.bfloat16)
    slots = torch.tensor([blocks * 16 - 1], device=device)
    ones, zeros = torch.ones(1, 128, device=device), torch.zeros(1, 128, device=device)
    rope_and_cache(qkv, ones, zeros, *caches, slots, num_q_heads=32, num_kv_heads=8)
    assert torch.equal(caches[0][-1, -1].reshape(-1), qkv[0, 32 * 128 : 40 * 128])
    assert torch.equal(caches[1][-1, -1].reshape(-1), qkv[0, 40 * 128 :])
