"""SmolLM2 through scheduler and runner, greedy, on both backends.

On torch in fp32 it equals `transformers`, token for token. Each answer is checked with one forward
pass of the reference over prompt and answer: if at every position the reference's most likely token
is the one we sampled, its greedy loop would have produced just this answer. The CPU kernels
multiply by 8-bit activations, so at near ties they may choose otherwise.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from typing import Any

import gguf
import pytest
import torch

from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.models.config import load_config
from shoal.engine.models.llama import LlamaForCausalLM
from shoal.engine.models.loader import load_model
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.models.native_loader import load_native_model
from shoal.engine.runner.backend import Backend
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.native_backend import NativeBackend
from shoal.engine.runner.torch_backend import TorchBackend
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.load import load_tokenizer
from tests.engine.greedy_prompts import PROMPTS
from tests.kernels.cpu_library import kernels

CPU = torch.device("cpu")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=[6, pytest.param(16, marks=pytest.mark.slow)])
def num_tokens(request: pytest.FixtureRequest) -> int:
    """Of each answer. The reference computes each of them, too: ten more take half a minute."""
    return int(request.param)


@pytest.fixture(scope="module")
def model(smollm2: ModelFiles) -> Iterator[LlamaForCausalLM]:
    yield load_model(smollm2, load_config(smollm2), dtype=torch.float32, device=CPU)
    gc.collect()


@pytest.fixture(scope="module")
def native(smollm2: ModelFiles) -> NativeLlama:
    return load_native_model(
        smollm2, load_config(smollm2), kernels(), precision="checkpoint", num_threads=2
    )


@pytest.fixture(scope="module")
def prompts(smollm2: ModelFiles) -> list[list[int]]:
    tokenizer = load_tokenizer(smollm2)
    return [tokenizer.encode(prompt) for prompt in PROMPTS]


def generate(
    model: LlamaForCausalLM | NativeLlama,
    prompts: list[list[int]],
    num_tokens: int,
    **config: int,
) -> list[list[int]]:
    """Greedy answers of all prompts, in flight together as far as the scheduler allows."""
    scheduler_config = SchedulerConfig(max_model_len=256, **config)
    cache = CacheConfig(num_blocks=60)
    backend: Backend
    if isinstance(model, NativeLlama):
        backend = NativeBackend(model, cache=cache, kv_format="bfloat16")
    else:
        backend = TorchBackend(model, cache=cache, device=CPU, dtype=torch.float32)
    runner = PagedModelRunner(backend, cache=cache, scheduler=scheduler_config)
    scheduler = Scheduler(scheduler_config, cache)
    params = SamplingParams(max_tokens=num_tokens, temperature=0, ignore_eos=True)
    for i, prompt in enumerate(prompts):
        request = Request(str(i), prompt, sampling_params=params, arrival_time=float(i))
        assert scheduler.add_request(request) is None
    answers: list[list[int]] = [[] for _ in prompts]
    while scheduler.has_unfinished_requests():
        out = scheduler.schedule(0.0)
        result = runner.execute_model(out)
        scheduler.update_from_output(out, result, 0.0)
        for request_id, new in zip(result.req_ids, result.sampled_token_ids, strict=True):
            answers[int(request_id)] += new
    scheduler.check_integrity()
    return answers


@pytest.fixture(scope="module")
def mixed(model: LlamaForCausalLM, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
    """Small steps, so that prefill chunks and decodes mix; a small cache, so that some wait."""
    return generate(model, prompts, num_tokens, max_num_seqs=16, max_num_batched_tokens=24)


def test_mixed_batches_equal_transformers(
    smollm2: ModelFiles,
    prompts: list[list[int]],
    mixed: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import AutoModelForCausalLM, GgufConfig

    # It reads the file twice, and makes the table of all names once for each layer: ten seconds.
    for name in ("GGUFReader", "get_tensor_name_map"):
        monkeypatch.setattr(gguf, name, functools.cache(getattr(gguf, name)))
    reference: Any = AutoModelForCausalLM.from_pretrained(
        smollm2.path.parent,
        gguf_file=smollm2.path.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    differing = []
    with torch.inference_mode():
        for prompt, answer in zip(prompts, mixed, strict=True):
            logits = reference(torch.tensor([prompt + answer])).logits[0]
            greedy = logits[len(prompt) - 1 : -1].argmax(-1).tolist()
            if greedy != answer:
                differing.append((prompt, answer, greedy))
    assert len(prompts) == 50
    assert differing == []


@pytest.mark.slow  # 60 s on torch; the CPU kernels' own below is quick
def test_alone_equals_mixed(
    model: LlamaForCausalLM, prompts: list[list[int]], num_tokens: int, mixed: list[list[int]]
) -> None:
    alone = [
        generate(model, [p], num_tokens, max_num_seqs=1, max_num_batched_tokens=256)[0]
        for p in prompts
    ]
    assert alone == mixed


def test_on_the_cpu_kernels_alone_equals_mixed_and_mostly_torch(
    native: NativeLlama, prompts: list[list[int]], num_tokens: int, mixed: list[list[int]]
) -> None:
    crowd = generate(native, prompts, num_tokens, max_num_seqs=16, max_num_batched_tokens=24)
    alone = [
        generate(native, [p], num_tokens, max_num_seqs=1, max_num_batched_tokens=256)[0]
        for p in prompts
    ]
    assert alone == crowd
    # One token that differs makes what follows differ.
    same = sum(ours == theirs for ours, theirs in zip(crowd, mixed, strict=True))
    first = sum(ours[0] == theirs[0] for ours, theirs in zip(crowd, mixed, strict=True))
    assert same >= 0.5 * len(prompts)
    assert first >= 0.9 * len(prompts)
