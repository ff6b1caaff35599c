"""Copies between the device's KV cache and host memory, alone and under a whole engine."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from shoal.engine.core.output import BlockCopies
from shoal.engine.models.paged_kv import LayerKV
from shoal.engine.runner.cpu_tier import CpuTier
from shoal.engine.runner.torch_profiler import TorchProfiler
from tests.engine.gpu.gpu_engine import GpuEngine, assert_greedy, load
from tests.engine.models.test_parity import save_reference

SHAPE = (20, 4, 2, 8)
"""Blocks, tokens of a block, KV heads, head size."""


def make_caches(device: torch.device, dtype: torch.dtype, *, heads_first: bool) -> list[LayerKV]:
    """Three layers, of which two share their tensors; quantized ones have scales."""

    def codes() -> torch.Tensor:
        values = torch.randn(SHAPE, device=device)
        if heads_first:
            values = values.transpose(1, 2).contiguous().transpose(1, 2)
        return values.to(dtype)

    def scales() -> torch.Tensor | None:
        return torch.rand(SHAPE[:3], device=device) if dtype.itemsize == 1 else None

    first, second = (LayerKV(codes(), codes(), scales(), scales()) for _ in range(2))
    return [first, second, first]


def contents(caches: list[LayerKV], block_id: int) -> list[torch.Tensor]:
    tensors = [tensor for layer in caches[:2] for tensor in layer if tensor is not None]
    return [tensor[block_id].float().cpu().clone() for tensor in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize("heads_first", [False, True])
def test_blocks_go_and_come_back(
    dtype: torch.dtype, heads_first: bool, device: torch.device
) -> None:
    caches = make_caches(device, dtype, heads_first=heads_first)
    tier = CpuTier(caches, 7)
    before = {block_id: contents(caches, block_id) for block_id in range(20)}
    tier.copy(BlockCopies(saves=[(3, 6), (19, 0), (8, 2)], loads=[]))
    # A save reads what a load of the same step overwrites.
    tier.copy(BlockCopies(saves=[(5, 1)], loads=[(6, 5), (0, 11)]))
    tier.copy(BlockCopies(saves=[], loads=[(1, 12)]))
    tier.close()
    moved = {5: 3, 11: 19, 12: 5}
    for block_id in range(20):
        expected = before[moved.get(block_id, block_id)]
        for found, wanted in zip(contents(caches, block_id), expected, strict=True):
            assert torch.equal(found, wanted), block_id


@pytest.mark.gpu
def test_a_step_waits_for_its_copies_and_copies_do_not_wait_for_steps(
    device: torch.device,
) -> None:
    """The device is kept busy; the copies end meanwhile, and what comes after sees them."""
    caches = [LayerKV(*(torch.zeros(64, 1 << 16, device=device) for _ in range(2)))]
    tier = CpuTier(caches, 64)
    caches[0].keys.copy_(torch.arange(64.0, device=device)[:, None])
    torch.cuda.synchronize()
    everything = BlockCopies(saves=[(i, 63 - i) for i in range(64)], loads=[])
    tier.copy(everything)  # compiles, as does the other way
    tier.copy(BlockCopies(saves=[], loads=[(i, i) for i in range(64)]))
    caches[0].keys.copy_(torch.arange(64.0, device=device)[:, None])
    torch.cuda.synchronize()
    tier.copy(everything)
    torch.cuda.synchronize()
    caches[0].keys.zero_()
    torch.cuda.synchronize()
    matrix = torch.randn(8192, 8192, device=device)
    for _ in range(40):  # most of a second of fp32 products
        matrix = matrix @ matrix
    busy = torch.cuda.Event()
    busy.record()
    tier.copy(BlockCopies(saves=[], loads=[(i, 63 - i) for i in range(64)]))
    after = caches[0].keys.sum(dim=1)
    assert tier._stream is not None
    tier._stream.synchronize()
    assert not busy.query()
    assert after.tolist() == [float(i << 16) for i in range(64)]
    tier.close()


@pytest.mark.gpu
def test_a_profile_shows_the_kernels(device: torch.device, tmp_path: Path) -> None:
    profiler = TorchProfiler(tmp_path)
    profiler.start()
    torch.mm(torch.ones(64, 64, device=device), torch.ones(64, 64, device=device))
    torch.cuda.synchronize()
    trace = json.loads(gzip.decompress(Path(profiler.stop()).read_bytes()))
    assert "kernel" in {event.get("cat") for event in trace["traceEvents"]}


@pytest.mark.parametrize("max_in_flight", [1, 2])
def test_an_engine_answers_the_same_with_a_tier(
    max_in_flight: int, tmp_path: Path, device: torch.device
) -> None:
    """Four stems of three blocks each, in a cache of twelve that others need, too."""
    reference = save_reference("llama 3", tmp_path)
    model = load(tmp_path, dtype=torch.float32, device=device)
    rng = random.Random(0)
    stems = [[rng.randrange(101) for _ in range(48)] for _ in range(4)]
    prompts = {f"r{i}": [*rng.choice(stems), i] for i in range(16)}
    engine = GpuEngine(
        model, device=device, num_blocks=13, num_host_blocks=40, max_in_flight=max_in_flight
    )
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=3)
        for _ in range(3):
            engine.step()
    for request_id, output in engine.run().items():
        assert_greedy(reference, prompts[request_id], output, tolerance=2e-3)
    assert engine.scheduler.make_stats().external_prefix_cache_hits >= 64
