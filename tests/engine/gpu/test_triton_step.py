"""Whole steps on the Triton bodies: on a GPU as they are, else in Triton's interpreter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shoal.kernels.dispatch import triton_on_cpu
from tests.engine.gpu.gpu_engine import GpuEngine, assert_greedy, load
from tests.engine.models.test_parity import FAMILIES, TINY, save_reference

SIZES = {**TINY, "num_hidden_layers": 2, "vocab_size": 67, "head_dim": 16}


# Padding rows hold what was in memory, and numpy tells of what comes of it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero) encountered"
)


@contextlib.contextmanager
def triton_bodies() -> Iterator[None]:
    with contextlib.nullcontext() if torch.cuda.is_available() else triton_on_cpu():
        yield


@pytest.mark.parametrize(
    "name", ["qwen2 with mixed layers", pytest.param("qwen3", marks=pytest.mark.gpu)]
)
def test_prompts_and_decodes_in_one_step(name: str, tmp_path: Path, device: torch.device) -> None:
    """Biases and two KV groups; qk-norm. A chunked prompt, decodes beside it, one draw."""
    assert name in FAMILIES
    reference = save_reference(name, tmp_path, sizes=SIZES)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    prompts = {"short": [5, 60, 3], "long": [(7 * i) % 67 for i in range(38)]}
    with triton_bodies():
        for request_id, prompt in prompts.items():
            engine.add(request_id, prompt, max_tokens=2)
        engine.add("drawn", [1, 2], max_tokens=2, temperature=1.0, top_k=5, seed=3)
        outputs = engine.run()
    for request_id, prompt in prompts.items():
        assert_greedy(reference, prompt, outputs[request_id], tolerance=2e-3)
    twin = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    twin.add("drawn", [1, 2], max_tokens=2, temperature=1.0, top_k=5, seed=3)
    assert twin.run()["drawn"] == outputs["drawn"]
