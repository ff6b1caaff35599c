"""The torch twins of ragged attention against the formula in fp64, and what they refuse."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from shoal.kernels.attention_plan import plan_attention
from shoal.kernels.cascade_attention import SharedPrefixes, cascade_attention
from shoal.kernels.merge_states import merge_states
from shoal.kernels.paged_attention import ragged_paged_attention
from tests.kernels.triton.attention_case import AttentionCase
from tests.kernels.triton.closeness import assert_as_exact_as

CPU = torch.device("cpu")
FP8, INT8 = torch.float8_e4m3fn, torch.int8
REQUESTS = [(1, 7), (5, 5), (1, 64), (6, 29), (0, 0), (1, 1)]


def attend(case: AttentionCase) -> tuple[torch.Tensor, torch.Tensor]:
    return ragged_paged_attention(
        case.query, case.key_cache, case.value_cache, case.batch,
        **case.options(), return_lse=True,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 1, 6, 1000])
@pytest.mark.parametrize(("softcap", "sinks"), [(None, False), (1.5, True)])
def test_as_the_formula(
    dtype: torch.dtype, window: int | None, softcap: float | None, sinks: bool
) -> None:
    case = AttentionCase(REQUESTS, CPU, dtype=dtype, window=window, softcap=softcap, sinks=sinks)
    out, lse = attend(case)
    exact, exact_lse = case.formula(torch.float64)
    torch_out, torch_lse = case.formula(dtype)
    assert_as_exact_as(torch_out, out, exact)
    assert_as_exact_as(torch_lse, lse, exact_lse)


@pytest.mark.parametrize("cache_dtype", [FP8, INT8])
@pytest.mark.parametrize("scales", ["head", "token"])
def test_narrow_caches(cache_dtype: torch.dtype, scales: str) -> None:
    case = AttentionCase(REQUESTS, CPU, cache_dtype=cache_dtype, scales=scales)
    assert_as_exact_as(
        case.formula(torch.float16)[0], attend(case)[0], case.formula(torch.float64)[0]
    )


def groups(starts: list[int], lens: list[int]) -> SharedPrefixes:
    return SharedPrefixes(
        group_start_loc=torch.tensor(starts, dtype=torch.int32),
        prefix_lens=torch.tensor(lens, dtype=torch.int32),
        max_prefix_len=max(lens),
        max_group_tokens=30,
    )


@pytest.mark.parametrize("options", [{}, {"sinks": True, "softcap": 3.0}])
def test_cascade_is_attention(options: dict[str, object]) -> None:
    case = AttentionCase([(1, 30), (2, 19), (7, 40), (1, 17)], CPU, shared_blocks=4, **options)  # type: ignore[arg-type]
    out, lse = cascade_attention(
        case.query, case.key_cache, case.value_cache, case.batch, groups([0, 3, 4], [16, 0]),
        **case.options(),
    )  # type: ignore[arg-type]  # fmt: skip
    (torch_out, torch_lse), (exact, exact_lse) = map(case.formula, (torch.float16, torch.float64))
    assert_as_exact_as(torch_out, out, exact)
    assert_as_exact_as(torch_lse, lse, exact_lse)


def test_parts_of_the_keys_merge_into_all() -> None:
    rng = torch.Generator().manual_seed(2)
    scores = torch.randn(3, 2, 10, generator=rng, dtype=torch.float64)
    values = torch.randn(10, 4, generator=rng, dtype=torch.float64)

    def part(keys: slice) -> tuple[torch.Tensor, torch.Tensor]:
        some = scores[..., keys]
        return some.softmax(-1) @ values[keys], some.logsumexp(-1).float()

    out, lse = merge_states(*part(slice(0, 3)), *part(slice(3, 10)))
    expected, expected_lse = part(slice(0, 10))
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)  # the logs are fp32
    torch.testing.assert_close(lse, expected_lse, rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    case = AttentionCase([(1, 7)], CPU, num_kv_heads=2)
    q, k, v, batch = case.query, case.key_cache, case.value_cache, case.batch
    scale = torch.ones(2)

    def refuse(message: str, *args: object, **options: object) -> None:
        with pytest.raises(ValueError, match=message):
            ragged_paged_attention(*args, **{"scale": 1.0} | options)  # type: ignore[call-overload]

    refuse("query is", q[0], k, v, batch)
    refuse("differ", q, k, v.float(), batch)
    refuse("do not fit a cache", q[:, :5], k, v, batch)
    refuse("do not fit a cache", q[..., :8], k, v, batch)
    refuse("blocks of 4", q, k, v, dataclasses.replace(batch, block_size=8))
    refuse("neither", q.float(), k, v, batch)
    refuse("contiguous", q, k.mT.contiguous().mT, v, batch)
    refuse("nothing to scale", q, k, v, batch, k_scale=scale)
    refuse("k_scale is", q, k.to(FP8), v.to(FP8), batch, k_scale=torch.ones(3))
    refuse("v_scale is", q, k.to(FP8), v.to(FP8), batch, v_scale=scale.double())
    refuse("sinks are", q, k, v, batch, sinks=torch.ones(3))
    refuse("out is", q, k, v, batch, out=q[:0])
    with pytest.raises(ValueError, match="window"):
        cascade_attention(
            q, k, v, dataclasses.replace(batch, sliding_window=3), groups([0, 1], [0]), scale=1.0
        )
    with pytest.raises(ValueError, match="lse_b is"):
        merge_states(q, q[..., 0].float(), q, q[..., 0])
    with pytest.raises(ValueError, match="one dtype"):
        merge_states(q, q[..., 0].float(), q.double(), q[..., 0].float())
    with pytest.raises(ValueError, match="head_dim is the contiguous dimension"):
        merge_states(q, q[..., 0].float(), q.mT.contiguous().mT, q[..., 0].float())
    with pytest.raises(ValueError, match="first_keys"):
        plan_attention(batch, num_q_heads=6, key_cache=k, first_keys=torch.zeros(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq_lens": torch.zeros(2, dtype=torch.int32)}, "seq_lens is"),
        ({"seq_lens": torch.zeros(1)}, "seq_lens is int32"),
        ({"block_tables": torch.zeros(2, 3, dtype=torch.int32)}, "block_tables is"),
        ({"query_start_loc": torch.zeros(0, dtype=torch.int32)}, "query_start_loc is"),
        ({"slot_mapping": torch.zeros(1)}, "slot_mapping is"),
        ({"slot_mapping": torch.zeros(4, dtype=torch.int64)[::2]}, "slot_mapping must be contig"),
        ({"block_tables": torch.zeros(3, 1, dtype=torch.int32).T[:, ::2]}, "rows of block_tables"),
        ({"sliding_window": 0}, "at least 1"),
        ({"max_seq_len": -1}, "not negative"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    batch = AttentionCase([(1, 7)], CPU).batch
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(batch, **change)  # type: ignore[arg-type]


def test_a_row_without_keys_is_zero() -> None:
    """As in the prefix of a group that shares nothing: -inf merges into nothing."""
    case = AttentionCase([(1, 9)], CPU)
    out, lse = cascade_attention(
        case.query, case.key_cache, case.value_cache, case.batch, groups([0, 1], [0]),
        **case.options(),
    )  # type: ignore[arg-type]  # fmt: skip
    assert_as_exact_as(case.formula(torch.float16)[0], out, case.formula(torch.float64)[0])
    assert not math.isinf(lse.max())
