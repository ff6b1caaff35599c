"""The floor of a decode step: the bytes that the benchmark counts are those of the modules."""

from __future__ import annotations

from pathlib import Path

import torch

from shoal.benchmarks.gpu.engine import random_prompts
from shoal.benchmarks.gpu.llama_8b import kv_token_bytes, model_files, read_weight_bytes
from shoal.engine.models.config import load_config
from shoal.engine.models.llama import LlamaForCausalLM
from shoal.engine.runner.gpu_kv_cache import layer_block_bytes


def test_weights_that_a_step_reads(tmp_path: Path) -> None:
    config = load_config(model_files(tmp_path))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    embedding = model.model.embed_tokens.weight.numel()
    assert read_weight_bytes(config) == 2 * (matrices - embedding)
    assert 8.0e9 < sum(p.numel() for p in model.parameters()) < 8.1e9


def test_keys_and_values_of_a_token(tmp_path: Path) -> None:
    config = load_config(model_files(tmp_path))
    assert kv_token_bytes(config) == 131_072
    block = layer_block_bytes(config, block_size=16, kv_dtype=torch.bfloat16)
    assert block * config.num_layers == 16 * kv_token_bytes(config)


def test_prompts_are_the_same_in_every_run_and_share_no_prefix() -> None:
    prompts = random_prompts()
    assert prompts == random_prompts()
    assert {len(prompt) for prompt in prompts} == {1024}
    assert len({tuple(prompt[:4]) for prompt in prompts}) == len(prompts) == 256
