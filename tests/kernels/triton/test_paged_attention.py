"""Ragged paged attention in Triton against the exact result, as near to it as torch comes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from shoal.kernels import attention_plan
from shoal.kernels.attention_plan import plan_attention
from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.launch.gpu import H100
from shoal.kernels.paged_attention import ragged_paged_attention
from shoal.kernels.triton import paged_attention as bodies
from tests.kernels.triton.attention_case import AttentionCase, Requests
from tests.kernels.triton.closeness import assert_as_exact_as

FP8, INT8 = torch.float8_e4m3fn, torch.int8
ON_GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * ON_GPU
SPLIT = 64
"""Keys of a split in these tests, so that short sequences have several."""

BATCHES: dict[str, Requests] = {
    "one token": [(1, 1)],
    "decodes": [(1, 3), (1, 4), (1, 5), (1, 131), (1, 64), (1, 65)],
    "chunks": [(17, 17), (23, 80)],
    "mixed": [(1, 130), (17, 31), (3, 70), (6, 6), (0, 0)],
}


@pytest.fixture(autouse=True)
def in_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything here runs in Triton, with short splits."""
    choose = attention_plan.attention_path

    def path(*args, **kwargs):
        path = choose(*args, **kwargs)
        shapes = tuple(dataclasses.replace(s, split_size=SPLIT) for s in path.shapes)
        return dataclasses.replace(path, shapes=shapes)

    monkeypatch.setattr(attention_plan, "attention_path", path)
    if not ON_GPU:  # the interpreter runs programs one by one: a few that loop are enough
        few = dataclasses.replace(H100, num_sms=1)
        monkeypatch.setattr(bodies, "gpu_of", lambda device: few)
    with triton_on_cpu():
        yield


def attend(case: AttentionCase) -> tuple[Tensor, Tensor]:
    out = torch.full_like(case.query, math.nan)  # every row must be written
    return ragged_paged_attention(
        case.query, case.key_cache, case.value_cache, case.batch,
        **case.options(), out=out, return_lse=True,
    )  # fmt: skip


def check(case: AttentionCase) -> None:
    out, lse = attend(case)
    exact, exact_lse = case.formula(torch.float64)
    torch_out, torch_lse = case.formula(case.dtype)
    assert_as_exact_as(torch_out, out, exact)
    assert_as_exact_as(torch_lse, lse, exact_lse)


@pytest.mark.parametrize("name", BATCHES)
def test_batches(name: str, device: torch.device) -> None:
    check(AttentionCase(BATCHES[name], device, num_kv_heads=2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: torch.dtype, device: torch.device) -> None:
    check(AttentionCase([(1, 70), (18, 30)], device, dtype=dtype))


@pytest.mark.parametrize("window", [1, 63, 64, 100])
def test_windows(window: int, device: torch.device) -> None:
    check(AttentionCase([(1, 140), (18, 70)], device, window=window))


@pytest.mark.parametrize(("softcap", "sinks"), [(2.0, False), (None, True), (1.0, True)])
def test_softcap_and_sinks(softcap: float | None, sinks: bool, device: torch.device) -> None:
    case = AttentionCase(
        [(1, 140), (18, 70), (1, 1)], device, softcap=softcap, sinks=sinks, window=90
    )
    check(case)


@pytest.mark.parametrize("cache_dtype", [FP8, INT8])
@pytest.mark.parametrize("scales", ["head", "token"])
def test_narrow_caches(cache_dtype: torch.dtype, scales: str, device: torch.device) -> None:
    check(AttentionCase([(1, 130), (18, 20)], device, cache_dtype=cache_dtype, scales=scales))


def test_codes_without_scales(device: torch.device) -> None:
    check(AttentionCase([(1, 30)], device, cache_dtype=FP8))


@pytest.mark.parametrize(
    ("num_kv_heads", "group", "head_dim"), [(1, 1, 32), (3, 5, 24), (1, 20, 16), (2, 8, 80)]
)
def test_heads(num_kv_heads: int, group: int, head_dim: int, device: torch.device) -> None:
    requests = [(1, 70), (2, 9), (17, 18)]
    check(
        AttentionCase(requests, device, num_kv_heads=num_kv_heads, group=group, head_dim=head_dim)
    )


@pytest.mark.parametrize("block_size", [1, 7])
def test_block_sizes(block_size: int, device: torch.device) -> None:
    check(AttentionCase([(1, 33), (1, 15), (18, 49)], device, block_size=block_size))


def test_heads_first_in_memory(device: torch.device) -> None:
    check(AttentionCase([(1, 70), (3, 9)], device, num_kv_heads=2, heads_first=True))


def test_nothing(device: torch.device) -> None:
    for requests in ([], [(0, 0)]):
        case = AttentionCase(requests, device)
        assert attend(case)[0].shape == case.query.shape


def test_padding_is_left_alone(device: torch.device) -> None:
    case = AttentionCase([(1, 66), (0, 0), (0, 0)], device, extra_tokens=3)
    out, _ = attend(case)
    assert out[1:].isnan().all()
    assert_as_exact_as(case.formula(torch.float16)[0], out[:1], case.formula(torch.float64)[0])


def alone(case: AttentionCase, row: int) -> tuple[Tensor, Tensor]:
    """The same call for one request of a case."""
    starts = case.batch.query_start_loc.tolist()
    tokens = slice(starts[row], starts[row + 1])
    batch = dataclasses.replace(
        case.batch,
        query_start_loc=case.batch.query_start_loc[row : row + 2] - starts[row],
        seq_lens=case.batch.seq_lens[row : row + 1],
        block_tables=case.batch.block_tables[row : row + 1],
        slot_mapping=case.batch.slot_mapping[tokens],
    )
    return ragged_paged_attention(
        case.query[tokens], case.key_cache, case.value_cache, batch,
        **case.options(), return_lse=True,
    )  # fmt: skip


@pytest.mark.parametrize("window", [None, 70])
def test_a_row_does_not_depend_on_its_neighbours(window: int | None, device: torch.device) -> None:
    case = AttentionCase(BATCHES["mixed"], device, window=window)
    out, lse = attend(case)
    starts = case.batch.query_start_loc.tolist()
    for row in range(len(case.requests) - 1):
        tokens = slice(starts[row], starts[row + 1])
        row_out, row_lse = alone(case, row)
        assert torch.equal(row_out, out[tokens])
        assert torch.equal(row_lse, lse[tokens])


def test_a_row_does_not_depend_on_how_the_prompt_was_cut(device: torch.device) -> None:
    case = AttentionCase([(40, 70)], device)
    whole, _ = attend(case)
    for first, second in [(17, 23)]:
        parts = []
        for begin, query_len in ((0, first), (first, second)):
            length = 30 + begin + query_len
            batch = dataclasses.replace(
                case.batch,
                query_start_loc=case.batch.query_start_loc * 0
                + torch.tensor([0, query_len], device=device, dtype=torch.int32),
                seq_lens=case.batch.seq_lens * 0 + length,
                slot_mapping=case.batch.slot_mapping[begin : begin + query_len],
            )
            query = case.query[begin : begin + query_len]
            parts.append(
                ragged_paged_attention(
                    query, case.key_cache, case.value_cache, batch, **case.options()
                )
            )
        assert torch.equal(torch.cat(parts), whole)


def test_a_plan_serves_several_layers(device: torch.device) -> None:
    case = AttentionCase(BATCHES["decodes"][3:], device)
    plan = plan_attention(
        case.batch, num_q_heads=case.query.shape[1], key_cache=case.key_cache, plain=True
    )
    expected, _ = attend(case)
    for _ in range(2):
        out = ragged_paged_attention(
            case.query, case.key_cache, case.value_cache, case.batch, **case.options(), plan=plan
        )
        assert torch.equal(out, expected)


def test_a_plan_for_other_layers_is_refused(device: torch.device) -> None:
    case = AttentionCase([(1, 3)], device, softcap=1.0)
    plan = plan_attention(case.batch, num_q_heads=3, key_cache=case.key_cache)
    heads = case.key_cache.expand(-1, -1, 3, -1)
    for other, cache, message in (
        (plan, heads, "number of heads"),
        (dataclasses.replace(plan, prefill_min_query_len=256), case.key_cache, "plain=False"),
    ):
        with pytest.raises(ValueError, match=message):
            ragged_paged_attention(
                case.query, cache, cache, case.batch, **case.options(), plan=other
            )


def test_bounds_above_the_real_lengths_change_nothing(device: torch.device) -> None:
    case = AttentionCase(BATCHES["decodes"][2:4], device)
    expected, _ = attend(case)
    case.batch = dataclasses.replace(case.batch, max_query_len=16, max_seq_len=2000)
    assert torch.equal(attend(case)[0], expected)


def test_offsets_beyond_32_bits(device: torch.device) -> None:
    """The last block of a cache with more than 2^31 elements (never touched, so never paid for)."""
    head_dim, block_size = 64, 16
    num_blocks = 2**31 // (head_dim * block_size) + 2
    small = AttentionCase(
        [(1, 30)], device, num_kv_heads=1, head_dim=head_dim, block_size=block_size,
        cache_dtype=INT8, scales="head",
    )  # fmt: skip
    large = []
    for cache in (small.key_cache, small.value_cache):
        whole = torch.empty(num_blocks, block_size, 1, head_dim, dtype=INT8, device=device)
        whole[-2:] = cache[small.batch.block_tables[0, :2].long()]
        large.append(whole)
    expected, _ = attend(small)
    small.key_cache, small.value_cache = large
    table = torch.tensor([[num_blocks - 2, num_blocks - 1]], dtype=torch.int32, device=device)
    small.batch = dataclasses.replace(small.batch, block_tables=table)
    assert torch.equal(attend(small)[0], expected)


@needs_gpu
@pytest.mark.parametrize("cache_dtype", [torch.bfloat16, FP8, INT8])
@pytest.mark.parametrize(("head_dim", "group"), [(64, 8), (128, 1), (128, 4), (128, 7), (256, 2)])
def test_real_heads(
    cache_dtype: torch.dtype, head_dim: int, group: int, device: torch.device
) -> None:
    requests = [(1, 1000), (1, 77), (4, 513), (40, 300), (200, 200), (1, 3000)]
    case = AttentionCase(
        requests, device, dtype=torch.bfloat16, cache_dtype=cache_dtype, head_dim=head_dim,
        group=group, block_size=16,
        scales={torch.bfloat16: "none", FP8: "head", INT8: "token"}[cache_dtype],
    )  # fmt: skip
    check(case)


@needs_gpu
def test_a_captured_graph_serves_other_lengths(device: torch.device) -> None:
    case = AttentionCase([(1, 900), (1, 130), (1, 30)], device, head_dim=128, block_size=16)
    fewer = AttentionCase([(1, 700), (1, 65), (0, 0)], device, head_dim=128, block_size=16)
    case.batch = dataclasses.replace(case.batch, max_seq_len=4096)
    attend(case)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = ragged_paged_attention(
            case.query, case.key_cache, case.value_cache, case.batch, **case.options()
        )
    for name in ("query_start_loc", "seq_lens"):
        getattr(case.batch, name).copy_(getattr(fewer.batch, name))
    tables = fewer.batch.block_tables
    case.batch.block_tables[:, : tables.shape[1]] = tables
    case.query[:2] = fewer.query
    for name in ("key_cache", "value_cache"):
        getattr(case, name)[: len(fewer.key_cache)] = getattr(fewer, name)
    graph.replay()
    assert torch.equal(out[:2], attend(fewer)[0])
