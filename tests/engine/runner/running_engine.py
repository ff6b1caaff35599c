"""A scheduler and a runner on one model, stepped by hand: what tests of the pair share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shoal.clock import VirtualClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import EngineCoreOutputs
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.models.causal_lm import CausalLM
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.torch_backend import TorchBackend
from tests.engine.runner.overlapping_backend import OverlappingBackend

MAX_MODEL_LEN = 64


class RunningEngine:
    """A scheduler and a runner on a cache of `num_blocks` blocks of 4 tokens."""

    def __init__(
        self,
        model: CausalLM,
        *,
        num_blocks: int,
        dtype: torch.dtype = torch.float32,
        overlaps: bool = False,
        num_host_blocks: int = 0,
    ) -> None:
        cache = CacheConfig(
            num_blocks=num_blocks,
            block_size=4,
            groups=model.config.kv_groups,
            num_host_blocks=num_host_blocks,
        )
        config = SchedulerConfig(
            max_num_seqs=8, max_num_batched_tokens=16, max_model_len=MAX_MODEL_LEN
        )
        self.scheduler = Scheduler(config, cache)
        self.outputs: dict[str, list[int]] = {}
        self.reports: list[EngineCoreOutputs] = []
        make_backend = OverlappingBackend if overlaps else TorchBackend
        self.backend = make_backend(model, cache=cache, device=torch.device("cpu"), dtype=dtype)
        runner = PagedModelRunner(self.backend, cache=cache, scheduler=config)
        self._core = EngineCore(
            self.scheduler, runner, VirtualClock(), max_in_flight=self.backend.max_in_flight
        )

    def add(self, request_id: str, prompt: Sequence[int], **params: object) -> None:
        request = Request(
            request_id,
            prompt,
            sampling_params=SamplingParams(**{"temperature": 0.0, **params}),  # type: ignore[arg-type]
            arrival_time=0.0,
        )
        rejection = self.scheduler.add_request(request)
        assert rejection is None, rejection
        self.outputs[request_id] = []

    def step(self) -> None:
        result = self._core.step()
        self.scheduler.check_integrity()
        self.reports.append(result)
        for request_id, token_ids in zip(result.req_ids, result.new_token_ids, strict=True):
            self.outputs[request_id] += token_ids

    def run(self, *, max_steps: int = 2_000) -> dict[str, list[int]]:
        for _ in range(max_steps):
            if not self.scheduler.has_unfinished_requests():
                return self.outputs
            self.step()
        raise AssertionError(f"not done after {max_steps} steps: {self.scheduler.make_stats()}")
