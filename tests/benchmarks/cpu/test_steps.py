"""Floors of steps, and a model driven by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shoal.benchmarks.cpu.driven_model import BLOCK_SIZE, DrivenModel, Part
from shoal.benchmarks.cpu.floors import Floors
from shoal.benchmarks.cpu.steps import Shape, floor_of, time_step
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.models.test_native import SIZES, save_bf16
from tests.kernels.cpu_library import kernels

FLOORS = Floors(2, read_bytes_per_s=1e9, multiply_adds_per_s={4: 4e9, 8: 2e9, 16: 1e9})


@pytest.fixture
def reference(tmp_path: Path) -> Any:
    return save_bf16("llama 3", tmp_path)


@pytest.fixture
def model(reference: Any, tmp_path: Path) -> DrivenModel:
    files = ModelFiles(name="tiny", path=tmp_path, format="hf", source="")
    return DrivenModel(files, kernels(), num_threads=2, num_kv_tokens=256, kv_format="float32")


def test_work_takes_what_memory_or_multiplying_takes() -> None:
    assert FLOORS.seconds(num_bytes=2e9, multiply_adds={4: 4e9}) == 2.0
    assert FLOORS.seconds(num_bytes=1e9, multiply_adds={4: 4e9, 8: 2e9, 16: 1e9}) == 3.0
    unknown = Floors(1, read_bytes_per_s=1e9, multiply_adds_per_s=dict.fromkeys((4, 8, 16), 0.0))
    assert unknown.seconds(num_bytes=1e9, multiply_adds={4: 1e12}) == 1.0


def test_parts_of_a_step_do_not_see_each_other(reference: Any, model: DrivenModel) -> None:
    first, second = np.arange(40), np.arange(60, 80)
    model.step([Part(first, 0), Part(second, 0)])
    model.step([Part(np.array([7]), 40), Part(np.array([9]), 20)])
    logits = torch.from_numpy(model.model.logits(np.arange(2)))
    with torch.inference_mode():
        for row, ids in zip(logits, ([*first, 7], [*second, 9]), strict=True):
            expected = reference(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(row, expected, atol=0.02, rtol=0)


def test_a_floor_counts_every_byte_and_every_multiply_add(model: DrivenModel) -> None:
    hidden, inner, vocab = SIZES["hidden_size"], SIZES["intermediate_size"], SIZES["vocab_size"]
    heads, kv_heads, dim = 4, 2, SIZES["head_dim"]
    layer = hidden * dim * (heads + 2 * kv_heads) + heads * dim * hidden
    # The MLP is padded to whole groups of 32.
    layer += 3 * hidden * -(-inner // 32) * 32 - hidden * (-(-inner // 32) * 32 - inner)
    in_layers = 3 * layer
    assert model.kv_bytes_per_token == 2 * 3 * kv_heads * dim * 4
    shape = Shape(2, 1, 9)
    multiply_adds = 2 * in_layers + 2 * vocab * hidden + 2 * 2 * 10 * 3 * heads * dim
    fast = Floors(2, read_bytes_per_s=1e15, multiply_adds_per_s=FLOORS.multiply_adds_per_s)
    assert floor_of(model, shape, fast) == pytest.approx(multiply_adds / 1e9)
    slow = Floors(2, read_bytes_per_s=1.0, multiply_adds_per_s=FLOORS.multiply_adds_per_s)
    num_bytes = floor_of(model, shape, slow)
    assert num_bytes > 2 * (in_layers + vocab * hidden) + 2 * 10 * model.kv_bytes_per_token


def test_a_step_is_timed(model: DrivenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.benchmarks.cpu.steps.SECONDS_A_SHAPE", 0.0)
    timing = time_step(model, Shape(2, 1, 30), FLOORS)
    assert 0 < timing.shortest_s <= timing.median_s
    assert timing.floor_s > 0


def test_names_and_sizes_of_shapes() -> None:
    assert [Shape(1, 1, 200).name, Shape(8, 1, 200).name, Shape(1, 64, 3000).name] == [
        "1 decode at 200", "8 decodes at 200", "prefill 64 at 3000",
    ]  # fmt: skip
    assert Shape(2, 1, BLOCK_SIZE).kv_tokens == 4 * BLOCK_SIZE
