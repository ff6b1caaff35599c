"""The CUDA backend in a whole engine, beside transformers and beside the torch backend."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.cuda_builder import run_trial_steps
from shoal.engine.runner.cuda_backend import CudaBackend
from shoal.engine.runner.gpu_kv_cache import allocate_kv_caches
from shoal.engine.sources.progress import NoProgress
from tests.engine.gpu.gpu_engine import GpuEngine, assert_greedy, load
from tests.engine.models.test_parity import FAMILIES, save_reference

VOCAB = 101
TOLERANCE = 2e-3
"""In logits of about 1 to 5; fp32 all the way, in another order of summation."""


def prompts_of(seed: int, count: int) -> dict[str, list[int]]:
    rng = random.Random(seed)
    stem = [rng.randrange(VOCAB) for _ in range(20)]
    prompts = {}
    for i in range(count):
        own = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 23))]
        prompts[f"r{i}"] = stem[: rng.choice([0, 16, 20])] + own
    return prompts


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_as_transformers_does(
    name: str, tmp_path: Path, device: torch.device
) -> None:
    """Prompts in chunks among decodes, shared prefixes, two steps in flight."""
    reference = save_reference(name, tmp_path)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    prompts = prompts_of(1, 10)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=9)
        engine.step()
    for request_id, output in engine.run().items():
        assert len(output) == 9
        assert_greedy(reference, prompts[request_id], output, tolerance=TOLERANCE)


def test_a_small_cache_preempts_and_answers_the_same(tmp_path: Path, device: torch.device) -> None:
    reference = save_reference("llama 3", tmp_path)
    model = load(tmp_path, dtype=torch.float32, device=device)
    engine = GpuEngine(model, device=device, num_blocks=12)
    prompts = prompts_of(2, 8)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=15)
    for request_id, output in engine.run().items():
        assert_greedy(reference, prompts[request_id], output, tolerance=TOLERANCE)
    assert engine.scheduler.make_stats().num_preemptions > 0


def test_seeded_draws_are_the_same_alone_and_in_a_crowd(
    tmp_path: Path, device: torch.device
) -> None:
    save_reference("mistral", tmp_path)
    model = load(tmp_path, dtype=torch.float32, device=device)
    params = {"max_tokens": 10, "temperature": 1.0, "top_k": 20, "top_p": 0.9}
    prompts = prompts_of(3, 8)
    crowd = GpuEngine(model, device=device)
    for i, (request_id, prompt) in enumerate(prompts.items()):
        crowd.add(request_id, prompt, seed=i, **(params if i % 2 else {"max_tokens": 10}))
    outputs = crowd.run()
    for i, (request_id, prompt) in enumerate(prompts.items()):
        alone = GpuEngine(model, device=device, max_in_flight=1)
        alone.add("alone", prompt, seed=i, **(params if i % 2 else {"max_tokens": 10}))
        assert alone.run()["alone"] == outputs[request_id]


def test_logprobs_of_prompt_and_output(tmp_path: Path, device: torch.device) -> None:
    reference = save_reference("qwen3", tmp_path)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    rng = random.Random(4)
    prompt = [rng.randrange(VOCAB) for _ in range(40)]
    engine.add("asks", prompt, max_tokens=5, logprobs=3, prompt_logprobs=2)
    engine.add("does not", prompt[:7], max_tokens=9)
    output = engine.run()["asks"]
    tokens = [*prompt, *output]
    with torch.inference_mode():
        exact = reference(torch.tensor([tokens])).logits[0].log_softmax(-1)
    reports = [*engine.prompt_logprobs["asks"], *engine.logprobs["asks"]]
    assert len(reports) == len(tokens) - 1
    for place, report in enumerate(reports):
        num_top = 2 if place + 1 < len(prompt) else 3
        best = exact[place].topk(num_top).values.tolist()
        assert report.token_ids[0] == tokens[place + 1]
        assert report.logprobs == pytest.approx(
            [float(exact[place, tokens[place + 1]]), *best], abs=TOLERANCE
        )
    assert "does not" not in engine.prompt_logprobs
    assert engine.logprobs["does not"] == []


def test_penalties_bias_and_min_tokens_are_applied(tmp_path: Path, device: torch.device) -> None:
    save_reference("llama 2", tmp_path)
    engine = GpuEngine(load(tmp_path, dtype=torch.float32, device=device), device=device)
    prompt = [5, 17, 60]
    engine.add("plain", prompt, max_tokens=6)
    first = engine.run()["plain"][0]
    engine.add("banned", prompt, max_tokens=6, logit_bias={first: -100.0})
    engine.add("wanted", prompt, max_tokens=6, logit_bias={77: 100.0})
    engine.add("new words", prompt, max_tokens=30, frequency_penalty=2.0, presence_penalty=2.0)
    engine.add("short", prompt, max_tokens=6, stop_token_ids=(first,))
    engine.add("long", prompt, max_tokens=6, stop_token_ids=(first,), min_tokens=4)
    outputs = engine.run()
    assert first not in outputs["banned"]
    assert outputs["wanted"] == [77] * 6
    assert outputs["short"] == [first]
    assert len(outputs["long"]) >= 4
    assert first not in outputs["long"][:3]
    assert len(set(outputs["new words"])) > 20


@pytest.mark.parametrize("kv_dtype", [torch.float8_e4m3fn, torch.int8])
def test_quantized_caches_stay_close(
    kv_dtype: torch.dtype, tmp_path: Path, device: torch.device
) -> None:
    """Codes err by 1/16 (fp8) or 1/127 of a head's largest value, so most tokens are the best."""
    reference = save_reference("llama 3", tmp_path)
    model = load(tmp_path, dtype=torch.float32, device=device)
    engine = GpuEngine(model, device=device, kv_dtype=kv_dtype)
    prompts = prompts_of(5, 6)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=5)
    tolerance = 1.0 if kv_dtype is torch.float8_e4m3fn else 0.2
    for request_id, output in engine.run().items():
        assert_greedy(reference, prompts[request_id], output, tolerance=tolerance)


def test_trial_steps_run_over_a_cache_of_two_blocks(tmp_path: Path, device: torch.device) -> None:
    """They read the null block and write nowhere; what is in the cache stays."""
    save_reference("qwen2 with mixed layers", tmp_path)
    model = load(tmp_path, dtype=torch.float32, device=device)
    cache = CacheConfig(num_blocks=2, groups=model.config.kv_groups)
    config = SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=40, max_model_len=30)
    kv_caches = allocate_kv_caches(model.config, cache, kv_dtype=torch.float32, device=device)
    for kv in kv_caches:
        kv.keys.fill_(0.5)
    backend = CudaBackend(model, kv_caches, cache=cache, scheduler=config, device=device)
    run_trial_steps(backend, config, cache, NoProgress())
    assert all((kv.keys == 0.5).all() and (kv.values == 0).all() for kv in kv_caches)
