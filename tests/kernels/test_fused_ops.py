"""The fused operations in torch against the separate ones, and against loops over slots."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.copy_blocks import copy_blocks, swap_blocks
from shoal.kernels.gather_rows import gather_rows
from shoal.kernels.kv_quantization import decode_torch, dynamic_scales_torch, encode_torch
from shoal.kernels.reshape_and_cache import reshape_and_cache
from shoal.kernels.rms_norm import fused_add_rms_norm_fp8, rms_norm, rms_norm_fp8
from shoal.kernels.rope_and_cache import rope_and_cache
from shoal.kernels.rotary import rotary_embedding
from shoal.kernels.silu_and_mul import silu_and_mul, silu_and_mul_fp8

Q_HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
SHAPE = (5, 3, KV_HEADS, HEAD_DIM)
SLOTS = [7, 14, 0, 8]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(num_tokens: int) -> tuple[Tensor, Tensor]:
    angles = rand(num_tokens, HEAD_DIM // 2, seed=1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def run(qkv: Tensor, caches: tuple[Tensor, Tensor], slots: list[int], **options: Tensor) -> Tensor:
    return rope_and_cache(
        qkv,
        *rotation(len(slots)),
        *caches,
        torch.tensor(slots),
        num_q_heads=Q_HEADS,
        num_kv_heads=KV_HEADS,
        **options,
    )


def qkv_of(num_tokens: int) -> Tensor:
    return rand(num_tokens, (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM)


def test_rope_and_cache_is_the_three_operations_one_after_another() -> None:
    qkv, (q_norm, k_norm) = qkv_of(4), rand(2, HEAD_DIM, seed=2)
    caches = torch.full((2, *SHAPE), -1.0)
    query = run(qkv, (caches[0], caches[1]), SLOTS, q_norm=q_norm, k_norm=k_norm)
    heads = qkv.view(4, -1, HEAD_DIM)
    expected_query, key = rotary_embedding(
        rms_norm(heads[:, :Q_HEADS], q_norm, eps=1e-6),
        rms_norm(heads[:, Q_HEADS : Q_HEADS + KV_HEADS], k_norm, eps=1e-6),
        *rotation(4),
    )
    expected = torch.full((2, *SHAPE), -1.0)
    value = heads[:, Q_HEADS + KV_HEADS :]
    reshape_and_cache(key, value, expected[0], expected[1], torch.tensor(SLOTS))
    torch.testing.assert_close(query, expected_query)
    torch.testing.assert_close(caches, expected)


def test_a_slot_of_minus_one_is_not_written() -> None:
    caches = torch.full((2, *SHAPE), -1.0)
    query = run(qkv_of(4), (caches[0], caches[1]), [-1, 14, -1, -1])
    assert query.isfinite().all()
    slots = caches.reshape(2, 15, -1)
    assert (slots[:, 14] != -1).all()
    assert (slots[:, [*range(14)]] == -1).all()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize("per_token", [False, True])
def test_codes_times_scales_are_the_values(per_token: bool, dtype: torch.dtype) -> None:
    qkv = qkv_of(4)
    plain = torch.zeros(2, *SHAPE)
    run(qkv, (plain[0], plain[1]), SLOTS)
    caches = [torch.zeros(SHAPE).to(dtype) for _ in "kv"]
    scales = torch.zeros(2, *SHAPE[:3]) if per_token else torch.full((2, KV_HEADS), 0.05)
    run(qkv, (caches[0], caches[1]), SLOTS, k_scale=scales[0], v_scale=scales[1])
    for codes, scale, values in zip(caches, scales, plain, strict=True):
        error = (decode_torch(codes, scale) - values).abs()
        # Half a step: of int8 everywhere, of fp8 at the largest (3 bits of mantissa).
        step = scale[..., None] if dtype == torch.int8 else values.abs() / 8
        smallest = scale[..., None] * 2.0**-9
        assert (error <= 0.5001 * torch.maximum(step.expand_as(error), smallest)).all()
        if per_token:
            written = torch.zeros(15, dtype=torch.bool)
            written[SLOTS] = True
            assert ((scale.view(15, -1) > 0).all(-1) == written).all()


def test_int8_codes_are_rounded_to_even_and_saturate() -> None:
    values = torch.tensor([0.5, 1.5, -2.5, 126.6, 200.0, -200.0])
    codes = encode_torch(values, None, torch.int8)
    assert codes.tolist() == [0, 2, -2, 127, 127, -127]


def test_fp8_codes_saturate() -> None:
    codes = encode_torch(torch.tensor([1e6, -1e6, 448.0]), None, torch.float8_e4m3fn)
    assert codes.float().tolist() == [448.0, -448.0, 448.0]


def test_the_scale_of_zeros_is_not_zero() -> None:
    assert (dynamic_scales_torch(torch.zeros(2, 4), torch.int8) > 0).all()


def test_fp8_results_are_the_plain_ones_quantized() -> None:
    x, residual, weight = rand(3, 40), rand(3, 40, seed=1), rand(40, seed=2)
    total = x + residual
    codes, scales, stream = fused_add_rms_norm_fp8(x, residual, weight, eps=1e-5)
    assert stream is residual
    torch.testing.assert_close(residual, total, rtol=0, atol=0)
    results = [
        ((codes, scales), rms_norm(total, weight, eps=1e-5)),
        (rms_norm_fp8(x, weight, eps=1e-5), rms_norm(x, weight, eps=1e-5)),
        (silu_and_mul_fp8(x), silu_and_mul(x)),
    ]
    for (codes, scales), values in results:
        assert codes.dtype == torch.float8_e4m3fn
        assert scales.shape == (3, 1)
        assert (codes.float().abs().amax(-1) == 448).all()
        allowed = torch.maximum(values.abs() / 16, scales * 2.0**-10) * 1.0001
        assert ((codes.float() * scales - values).abs() <= allowed).all()


def test_gather_rows_reads_rows_and_makes_zeros_of_what_is_outside() -> None:
    table = rand(4, 3)
    ids = torch.tensor([[3, -1], [4, 0]], dtype=torch.int32)
    expected = torch.stack([table[3], torch.zeros(3), torch.zeros(3), table[0]]).view(2, 2, 3)
    torch.testing.assert_close(gather_rows(table, ids), expected, rtol=0, atol=0)
    assert not gather_rows(torch.empty(0, 3), ids).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float8_e4m3fn])
def test_blocks_are_copied_in_every_tensor(dtype: torch.dtype) -> None:
    caches = [rand(5, 2, 3, seed=i).to(dtype) for i in range(3)]
    before = [cache.float() for cache in caches]
    copy_blocks(caches, torch.tensor([[4, 0], [2, 3]]))
    for cache, old in zip(caches, before, strict=True):
        assert torch.equal(cache.float(), old[[4, 1, 2, 2, 4]])


def test_blocks_are_swapped_between_caches() -> None:
    sources = [rand(2, 3, seed=i) for i in range(2)]
    destinations = [torch.zeros(9, 3) for _ in range(2)]
    swap_blocks(sources, destinations, torch.tensor([[1, 8], [0, 5]]))
    for source, destination in zip(sources, destinations, strict=True):
        assert torch.equal(destination[[5, 8]], source)
        assert destination.count_nonzero() == source.count_nonzero()


class TestBadInput:
    def test_norm(self) -> None:
        with pytest.raises(ValueError, match="weight has shape"):
            rms_norm(rand(2, 4), rand(3), eps=1e-5)

    def test_activation(self) -> None:
        with pytest.raises(ValueError, match="must be even"):
            silu_and_mul(rand(2, 5))

    @pytest.mark.parametrize(
        ("table", "ids", "message"),
        [
            (torch.zeros(3), torch.zeros(1, dtype=torch.int64), "table has shape"),
            (torch.zeros(3, 2), torch.zeros(1), "ids are torch.float32"),
        ],
    )
    def test_gather(self, table: Tensor, ids: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            gather_rows(table, ids)

    def test_pairs(self) -> None:
        with pytest.raises(ValueError, match="pairs is"):
            copy_blocks([rand(2, 2)], torch.tensor([0, 1]))

    def test_numbers_of_tensors(self) -> None:
        with pytest.raises(ValueError, match="1 sources and 0 destinations"):
            swap_blocks([rand(2, 2)], [], torch.tensor([[0, 1]]))

    def test_blocks_that_differ(self) -> None:
        with pytest.raises(ValueError, match="blocks of pair 0 differ"):
            swap_blocks([rand(2, 2)], [rand(2, 3)], torch.tensor([[0, 1]]))

    def test_blocks_with_holes(self) -> None:
        cache = rand(2, 4, 6)[..., :3]
        with pytest.raises(ValueError, match="not dense"):
            copy_blocks([cache], torch.tensor([[0, 1]]))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"qkv": torch.zeros(4, 60)}, r"need \[num_tokens, 64\]"),
            ({"cos": torch.zeros(4, 4)}, "cos is"),
            ({"sin": torch.zeros(4, 8).half()}, "sin is torch.float16"),
            ({"slot_mapping": torch.zeros(4, dtype=torch.int32)}, "slot_mapping is torch.int32"),
            ({"value_cache": torch.zeros(5, 3, 1, 8)}, "a cache has shape"),
            ({"value_cache": torch.zeros(5, 4, 2, 8)}, "must have one shape"),
            ({"key_cache": torch.zeros(5, 3, 2, 7)}, "head_dim 7 is odd"),
            ({"q_norm": torch.zeros(4)}, "a norm has shape"),
            ({"k_scale": torch.zeros(3)}, "a scale is"),
            ({"v_scale": torch.zeros(5, 3, 2)}, "needs an fp8 or int8 cache"),
        ],
    )
    def test_rope_and_cache(self, change: dict[str, Tensor], message: str) -> None:
        cos, sin = rotation(4)
        arguments = {
            "qkv": qkv_of(4),
            "cos": cos,
            "sin": sin,
            "key_cache": torch.zeros(SHAPE),
            "value_cache": torch.zeros(SHAPE),
            "slot_mapping": torch.zeros(4, dtype=torch.int64),
        }
        with pytest.raises(ValueError, match=message):
            rope_and_cache(**(arguments | change), num_q_heads=Q_HEADS, num_kv_heads=KV_HEADS)
