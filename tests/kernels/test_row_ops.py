"""Normalization, rotation, activation and cache writes against their formulas in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.reshape_and_cache import reshape_and_cache
from shoal.kernels.rms_norm import fused_add_rms_norm, rms_norm
from shoal.kernels.rotary import rotary_embedding
from shoal.kernels.silu_and_mul import silu_and_mul

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def rand(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(out: Tensor, exact: Tensor, *, roundings: int) -> None:
    """Within so many roundings of the result's dtype, relative to the largest value."""
    eps = torch.finfo(out.dtype).eps
    assert (out.double() - exact).abs().max() <= roundings * eps * exact.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 123), (2, 3, 64), (0, 8)])
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = rand(*shape, dtype=dtype), rand(shape[-1], dtype=dtype, seed=1)
    out = rms_norm(x, weight, eps=1e-5)
    assert out.dtype == dtype
    assert out.shape == x.shape
    wide = x.double()
    exact = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    if exact.numel():
        assert_close(out, exact, roundings=4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_add_rms_norm_adds_in_place(dtype: torch.dtype) -> None:
    x, residual, weight = (rand(7, 48, dtype=dtype, seed=i) for i in range(3))
    weight = weight[0].clone()
    total = residual + x
    out, stream = fused_add_rms_norm(x, residual, weight, eps=1e-6)
    assert stream is residual
    torch.testing.assert_close(residual, total, rtol=0, atol=0)
    torch.testing.assert_close(out, rms_norm(total, weight, eps=1e-6), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_rotates_each_pair_by_its_angle(dtype: torch.dtype) -> None:
    angles = rand(5, 8, seed=3).double()
    cos = torch.cat((angles.cos(), angles.cos()), -1).float()
    sin = torch.cat((-angles.sin(), angles.sin()), -1).float()
    query, key = rand(5, 6, 16, dtype=dtype), rand(5, 2, 16, dtype=dtype, seed=1)
    for out, x in zip(rotary_embedding(query, key, cos, sin), (query, key), strict=True):
        assert out.dtype == dtype
        pairs = torch.complex(x[..., :8].double(), x[..., 8:].double())
        turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None, :]
        assert_close(out, torch.cat((turned.real, turned.imag), -1), roundings=4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_and_mul(dtype: torch.dtype) -> None:
    gate_up = rand(3, 2 * 37, dtype=dtype)
    gate, up = gate_up.double().chunk(2, -1)
    assert_close(silu_and_mul(gate_up), gate * gate.sigmoid() * up, roundings=4)


def test_reshape_and_cache_writes_the_named_slots_and_no_other() -> None:
    key, value = rand(3, 2, 4), rand(3, 2, 4, seed=1)
    caches = torch.full((2, 5, 4, 2, 4), -1.0)
    slots = torch.tensor([7, 19, 4])
    reshape_and_cache(key, value, caches[0], caches[1], slots)
    for cache, new in zip(caches, (key, value), strict=True):
        rows = cache.reshape(20, 2, 4)
        torch.testing.assert_close(rows[slots], new)
        assert (rows[[i for i in range(20) if i not in slots.tolist()]] == -1).all()


def test_reshape_and_cache_converts_to_the_caches_dtype() -> None:
    cache = torch.zeros(1, 2, 1, 4, dtype=torch.bfloat16)
    key = rand(1, 1, 4)
    reshape_and_cache(key, key, cache, cache.clone(), torch.tensor([1]))
    torch.testing.assert_close(cache[0, 1], key[0].bfloat16())
