"""Operations of attention: RoPE with the cache write, paged attention, merges of its parts."""

from __future__ import annotations

import torch
from torch import Tensor

from shoal.kernels.merge_states import merge_states, merge_states_torch
from shoal.kernels.paged_attention import ragged_paged_attention
from shoal.kernels.quantize_rows import CODE_MAX
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.attention_case import AttentionCase
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.rope_case import Step, check
from tests.kernels.triton.test_mla_decode import assert_right, paged

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


def attention(draw: Draw) -> None:
    """Ragged paged attention; on a GPU also what is long enough for the prefill path."""
    requests = []
    for index in range(draw.size("num_reqs", 4, gpu=9)):
        query_len = draw.pick(f"query_{index}", (0, 1, 1, 1, 2, 5, 16, 17, 20))
        if draw.device.type == "cuda" and not draw.integers(1, 0, 5)[0]:
            query_len = draw.size(f"query_{index}", 600, least=1)
        context = draw.size(f"context_{index}", 70, gpu=1500) if query_len else 0
        requests.append((query_len, query_len + context))
    dtype = draw.product_dtype()
    cache = None if dtype == torch.float32 else draw.pick("cache", (None, None, *NARROW))
    case = AttentionCase(
        requests,
        draw.device,
        num_kv_heads=draw.size("num_kv_heads", 3, gpu=8, least=1),
        group=draw.pick("group", (1, 2, 3, 4, 7, 8, 17)),
        head_dim=draw.pick("head_dim", (2, 16, 24, 64, 128)),
        block_size=draw.pick("block_size", (1, 4, 5, 16)),
        dtype=dtype,
        cache_dtype=cache,
        scales="none" if cache is None else draw.pick("scales", ("head", "token")),
        window=draw.pick("window", (None, None, 1, 4, 37)),
        softcap=draw.pick("softcap", (None, None, 0.7, 30.0)),
        sinks=draw.flag("sinks"),
        heads_first=draw.flag("heads_first"),
        seed=draw.seed % 2**40,
    )
    out, lse = ragged_paged_attention(
        case.query,
        case.key_cache,
        case.value_cache,
        case.batch,
        **case.options(),  # type: ignore[arg-type]
        return_lse=True,
    )
    (exact, exact_lse), (torch_out, torch_lse) = case.formula(torch.float64), case.formula(dtype)
    assert_as_exact_as(torch_out, out, exact)
    assert_as_exact_as(torch_lse, lse, exact_lse)


def merges(draw: Draw) -> None:
    """Of two parts of attention, some without keys: those may hold NaN."""
    tokens, heads = draw.size("tokens", 9, gpu=300), draw.size("heads", 9, gpu=70, least=1)
    shape = (tokens, heads, draw.size("head_dim", 70, gpu=260, least=1))
    dtype = draw.float_dtype()
    parts = [draw.normal(*shape, dtype=dtype) for _ in "ab"]
    sums = [draw.normal(*shape[:2]) * 5 for _ in "ab"]
    for part, lse in zip(parts, sums, strict=True):
        empty = draw.normal(*shape[:2]) > 1
        lse[empty], part[empty] = -torch.inf, torch.nan
    out, lse = merge_states(parts[0], sums[0], parts[1], sums[1])
    results = []
    for wide in (False, True):
        a, lse_a, b, lse_b = (
            x.double() if wide else x for x in (parts[0], sums[0], parts[1], sums[1])
        )
        results.append((torch.empty_like(a), torch.empty_like(lse_a)))
        merge_states_torch(a, lse_a, b, lse_b, *results[-1])
    (torch_out, torch_lse), (exact, exact_lse) = results
    assert_as_exact_as(torch_out, out, exact)
    there = exact_lse > -torch.inf
    assert torch.equal(lse > -torch.inf, there)
    assert_as_exact_as(torch_lse[there], lse[there], exact_lse[there])


def latent(draw: Draw) -> None:
    """MLA decode. Its tiles are made for keys of up to 512 + 64 entries."""
    value_dim = 8 * draw.size("value_dim / 8", 8, gpu=64, least=1)
    key_dim = value_dim + 8 * draw.size("rope / 8", 3, gpu=8, least=1)
    case = paged(
        [draw.size(f"len_{i}", 70, gpu=3000) for i in range(draw.size("num_reqs", 4, gpu=9))],
        device=draw.device,
        num_heads=draw.size("num_heads", 6, gpu=130, least=1),
        key_dim=key_dim,
        block_size=draw.pick("block_size", (1, 4, 16, 64)),
        dtype=draw.narrow_dtype(),
        seed=draw.seed % 2**40,
    )
    assert_right(case, value_dim=value_dim, scale=key_dim**-0.5)
