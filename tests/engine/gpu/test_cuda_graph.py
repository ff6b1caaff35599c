"""Decode steps as CUDA graphs, and the whole build of a GPU engine: on a GPU alone."""

from __future__ import annotations

import gc
import json
import random
from pathlib import Path

import pytest
import torch

from shoal.engine.config import EngineConfig
from shoal.engine.cuda_builder import build_cuda
from shoal.engine.models.config import load_config
from shoal.engine.runner.graph_buckets import CaptureLimits
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.progress import NoProgress
from tests.engine.gpu.gpu_engine import GpuEngine, assert_greedy, load
from tests.engine.models.test_parity import save_reference

pytestmark = pytest.mark.gpu

GIB = 1 << 30
NO_LIMITS = CaptureLimits(seconds=1e6, num_bytes=1 << 50)


def random_prompts(seed: int, count: int) -> dict[str, list[int]]:
    rng = random.Random(seed)
    return {f"r{i}": [rng.randrange(101) for _ in range(rng.randint(1, 40))] for i in range(count)}


@pytest.mark.parametrize("name", ["llama 3", "qwen2 with mixed layers", "qwen3"])
def test_graphs_answer_as_transformers_does(
    name: str, tmp_path: Path, device: torch.device
) -> None:
    """Batches shrink from 8 to 1 as answers end, so that every graph has its turn."""
    reference = save_reference(name, tmp_path)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    report = engine.backend.capture_graphs(NO_LIMITS, NoProgress())
    assert report.num_captured == report.num_planned == 6  # 8, 4, 2, 1 decodes; 32 and 16 tokens
    prompts = random_prompts(1, 12)
    for i, (request_id, prompt) in enumerate(prompts.items()):
        engine.add(request_id, prompt, max_tokens=3 + 2 * i)
    for request_id, output in engine.run().items():
        assert_greedy(reference, prompts[request_id], output, tolerance=2e-3)


def test_bf16_answers_are_the_same_with_and_without_graphs(
    tmp_path: Path, device: torch.device
) -> None:
    save_reference("llama 3", tmp_path)
    model = load(tmp_path, dtype=torch.bfloat16, device=device)
    outputs = []
    for with_graphs in (False, True):
        engine = GpuEngine(model, device=device, kv_dtype=torch.bfloat16)
        if with_graphs:
            engine.backend.capture_graphs(NO_LIMITS, NoProgress())
        for i, (request_id, prompt) in enumerate(random_prompts(2, 8).items()):
            engine.add(request_id, prompt, max_tokens=16, temperature=0.8, seed=i)
        outputs.append(engine.run())
    same = sum(outputs[0][id_] == outputs[1][id_] for id_ in outputs[0])
    assert same >= 6, outputs  # other batch shapes, other sums: a near tie may turn


def test_a_limit_ends_capturing_and_steps_run_all_the_same(
    tmp_path: Path, device: torch.device
) -> None:
    reference = save_reference("llama 3", tmp_path)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    report = engine.backend.capture_graphs(CaptureLimits(seconds=0.0), NoProgress())
    assert report.num_captured == 1
    prompts = random_prompts(3, 5)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=6)
    for request_id, output in engine.run().items():
        assert_greedy(reference, prompts[request_id], output, tolerance=2e-3)


def test_the_cache_fills_what_the_share_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dummy model from a config.json alone, on a GPU of 4 GiB of which 2 are free.

    What is really free other tests change at the same time.
    """
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2 * GIB, 4 * GIB))
    gc.collect()  # what earlier tests left is not to go while this one counts
    before = torch.cuda.memory_allocated()
    config = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 1000, "hidden_size": 256,
        "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    files = ModelFiles("dummy", tmp_path, "hf", str(tmp_path))
    engine = EngineConfig(
        model="dummy", device="cuda", load_format="dummy", gpu_memory_utilization=0.75,
        max_num_seqs=16, max_num_batched_tokens=512,
    )  # fmt: skip
    model = load_config(files)
    scheduler = engine.scheduler_config(max_model_len=2048)
    built = build_cuda(engine, files, model, scheduler, NoProgress())
    assert built.graphs is not None
    assert 0 < built.graphs.num_captured <= built.graphs.num_planned  # compiling may take its time
    assert 0 < built.memory.activations < GIB // 2
    assert built.kv_cache_bytes == GIB - built.memory.activations
    block_bytes = 2 * 2 * 16 * 2 * 64 * 2  # layers, K and V, tokens, heads, head_dim, bf16
    assert built.cache.num_blocks == built.kv_cache_bytes // block_bytes
    allocated = torch.cuda.memory_allocated() - before
    assert 0.99 * built.kv_cache_bytes < allocated < built.kv_cache_bytes + GIB // 4
