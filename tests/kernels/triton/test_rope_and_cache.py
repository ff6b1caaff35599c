"""One pass of norm, rotation and cache write against the same in fp64, beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.kv_quantization import decode_torch
from shoal.kernels.quantize_rows import CODE_MAX
from shoal.kernels.rope_and_cache import rope_and_cache, rope_and_cache_torch
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import DTYPES, rand

EPS = 1e-5
BLOCK_SIZE = 4
NUM_BLOCKS = 7


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


class Step:
    """Inputs of one call, and an exact answer."""

    def __init__(
        self,
        device: torch.device,
        *,
        num_tokens: int = 5,
        num_q_heads: int = 6,
        num_kv_heads: int = 2,
        head_dim: int = 16,
        dtype: torch.dtype = torch.float32,
        qk_norm: bool = False,
        heads_outside: bool = False,
    ) -> None:
        self.heads = {"num_q_heads": num_q_heads, "num_kv_heads": num_kv_heads}
        self.kv_shape = (NUM_BLOCKS, BLOCK_SIZE, num_kv_heads, head_dim)
        self.heads_outside = heads_outside
        self.device, self.head_dim = device, head_dim
        width = (num_q_heads + 2 * num_kv_heads) * head_dim
        self.qkv = rand(num_tokens, width, device=device, dtype=dtype)
        angles = 9 * rand(num_tokens, head_dim // 2, device=device, seed=1)
        cos, sin = angles.cos(), angles.sin()
        self.cos, self.sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        # Two slots that follow one another, and jumps between blocks.
        order = torch.randperm(NUM_BLOCKS * BLOCK_SIZE, generator=torch.Generator().manual_seed(2))
        self.slots = order[:num_tokens].to(device)
        norms = [rand(head_dim, device=device, dtype=dtype, seed=i) for i in (3, 4)]
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
        heads = self.qkv.double().view(self.qkv.shape[0], -1, self.head_dim)
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
        places = (slots // BLOCK_SIZE, slots % BLOCK_SIZE)
        if scale is not None and scale.dim() == 3:
            scale = scale[places]
        if cache.dtype.itemsize == 1:
            codes = cache.view(torch.uint8)[places].view(cache.dtype)
            return decode_torch(codes, scale)
        values = cache[places]
        return values if scale is None else decode_torch(values, scale)


def check(step: Step, cache_dtype: torch.dtype, scales_of=dict) -> None:
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
        unwritten = torch.ones(NUM_BLOCKS * BLOCK_SIZE, dtype=torch.bool, device=cache.device)
        unwritten[step.slots[kept]] = False
        rest = cache.float().reshape(NUM_BLOCKS * BLOCK_SIZE, -1)[unwritten]
        assert (rest == -128).all() if cache_dtype == torch.int8 else rest.isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("heads_outside", [False, True])
def test_in_the_dtype_of_the_model(
    heads_outside: bool, qk_norm: bool, dtype: torch.dtype, device: torch.device
) -> None:
    check(Step(device, dtype=dtype, qk_norm=qk_norm, heads_outside=heads_outside), dtype)


@pytest.mark.parametrize(
    ("num_tokens", "num_q_heads", "num_kv_heads", "head_dim"),
    [(1, 1, 1, 2), (3, 9, 3, 64), (1, 5, 5, 80), (28, 7, 1, 6), (4, 4, 4, 128)],
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
    assert step.run(rope_and_cache, caches).shape == (0, 6, 16)


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
        assert int((scale == -1).sum()) == (NUM_BLOCKS * BLOCK_SIZE - step.slots.numel()) * 2


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
