"""A whole engine on the CUDA backend, stepped by hand, and the answers that it may give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from shoal.clock import VirtualClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import TokenLogprobs
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.models.config import load_config
from shoal.engine.models.llama import LlamaForCausalLM
from shoal.engine.models.loader import load_model
from shoal.engine.runner.cuda_backend import CudaBackend
from shoal.engine.runner.gpu_kv_cache import allocate_kv_caches
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.sources.model_files import ModelFiles

MAX_MODEL_LEN = 64


class GpuEngine:
    """Blocks of 16 tokens, steps of at most 32, contexts of at most 64; two steps in flight."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        *,
        device: torch.device,
        kv_dtype: torch.dtype = torch.float32,
        num_blocks: int = 41,
        max_in_flight: int = 2,
        num_host_blocks: int = 0,
    ) -> None:
        cache = CacheConfig(
            num_blocks=num_blocks, groups=model.config.kv_groups, num_host_blocks=num_host_blocks
        )
        config = SchedulerConfig(
            max_num_seqs=8, max_num_batched_tokens=32, max_model_len=MAX_MODEL_LEN
        )
        kv_caches = allocate_kv_caches(model.config, cache, kv_dtype=kv_dtype, device=device)
        self.backend = CudaBackend(model, kv_caches, cache=cache, scheduler=config, device=device)
        self.scheduler = Scheduler(config, cache)
        runner = PagedModelRunner(self.backend, cache=cache, scheduler=config)
        self.core = EngineCore(self.scheduler, runner, VirtualClock(), max_in_flight=max_in_flight)
        self.outputs: dict[str, list[int]] = {}
        self.logprobs: dict[str, list[TokenLogprobs]] = {}
        self.prompt_logprobs: dict[str, list[TokenLogprobs]] = {}

    def add(self, request_id: str, prompt: Sequence[int], **params: Any) -> None:
        request = Request(
            request_id,
            prompt,
            sampling_params=SamplingParams(**{"temperature": 0.0, **params}),
            arrival_time=0.0,
        )
        rejection = self.core.add_request(request)
        assert rejection is None, rejection
        self.outputs[request_id], self.logprobs[request_id] = [], []

    def step(self) -> None:
        outputs = self.core.step()
        for request_id, token_ids in zip(outputs.req_ids, outputs.new_token_ids, strict=True):
            self.outputs[request_id] += token_ids
        for request_id, reports in outputs.logprobs.items():
            self.logprobs[request_id] += reports
        self.prompt_logprobs |= outputs.prompt_logprobs

    def run(self, *, max_steps: int = 500) -> dict[str, list[int]]:
        for _ in range(max_steps):
            if not self.core.has_work():
                self.scheduler.check_integrity()
                return self.outputs
            self.step()
        raise AssertionError(f"not done after {max_steps} steps: {self.scheduler.make_stats()}")


def load(folder: Path, *, dtype: torch.dtype, device: torch.device) -> LlamaForCausalLM:
    files = ModelFiles(name="tiny", path=folder, format="hf", source=str(folder))
    return load_model(files, load_config(files), dtype=dtype, device=device)


@torch.inference_mode()
def assert_greedy(
    reference: Any, prompt: Sequence[int], output: Sequence[int], *, tolerance: float
) -> None:
    """Fail unless each token of `output` is the best that the reference knows there.

    The reference (fp32, transformers, on the CPU) sees the engine's own tokens, so a near tie that
    rounding turned does not make all that follows wrong. tolerance: in logits.
    """
    tokens = [*prompt, *output]
    logits = reference(torch.tensor([tokens])).logits[0, len(prompt) - 1 : -1]
    assert len(logits) == len(output)
    chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
    behind = logits.max(dim=1).values - chosen
    assert behind.max() <= tolerance, (behind, tokens)
