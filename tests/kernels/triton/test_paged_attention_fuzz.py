"""Ragged paged attention over drawn shapes, for a bounded time: FUZZ_SECONDS, 3 by default."""

from __future__ import annotations

import itertools
import os
import random
import time

import pytest
import torch

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.paged_attention import ragged_paged_attention
from tests.kernels.triton.attention_case import AttentionCase, Requests
from tests.kernels.triton.closeness import assert_as_exact_as

SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
FP8, INT8 = torch.float8_e4m3fn, torch.int8


def draw_requests(draw: random.Random) -> Requests:
    requests = []
    for _ in range(draw.randint(1, 4)):
        query_len = draw.choice([0, 1, 1, 1, 2, 5, 16, 17, 20])
        context = draw.choice([0, 0, 3, 15, 16, 17, 40, 1100]) * (query_len > 0)
        requests.append((query_len, query_len + context))
    return requests


def draw_case(seed: int, device: torch.device) -> AttentionCase:
    draw = random.Random(seed)
    cache_dtype = draw.choice([None, None, FP8, INT8])
    return AttentionCase(
        draw_requests(draw),
        device,
        num_kv_heads=draw.choice([1, 2, 3]),
        group=draw.choice([1, 2, 3, 4, 7, 17]),
        head_dim=draw.choice([2, 16, 24, 64]),
        block_size=draw.choice([1, 4, 5, 16]),
        dtype=draw.choice([torch.float16, torch.float32]) if cache_dtype is None else torch.float16,
        cache_dtype=cache_dtype,
        scales="none" if cache_dtype is None else draw.choice(["head", "token"]),
        window=draw.choice([None, None, 1, 4, 37]),
        softcap=draw.choice([None, None, 0.7, 30.0]),
        sinks=draw.random() < 0.3,
        heads_first=draw.random() < 0.3,
        seed=seed,
    )


@pytest.mark.timeout(SECONDS + 120)
def test_drawn_shapes(device: torch.device) -> None:
    end = time.monotonic() + SECONDS
    for seed in itertools.count(SEED):
        case = draw_case(seed, device)
        with triton_on_cpu():
            out, lse = ragged_paged_attention(
                case.query, case.key_cache, case.value_cache, case.batch,
                **case.options(), return_lse=True,
            )  # fmt: skip
        exact, exact_lse = case.formula(torch.float64)
        torch_out, torch_lse = case.formula(case.dtype)
        try:
            assert_as_exact_as(torch_out, out, exact)
            assert_as_exact_as(torch_lse, lse, exact_lse)
        except AssertionError as error:
            raise AssertionError(f"FUZZ_SEED={seed}: {error}") from error
        if time.monotonic() > end:
            break
