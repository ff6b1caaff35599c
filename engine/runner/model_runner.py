"""Runs a scheduler step on a torch model: batch, forward, logits, sample.

The same code on "cpu" and "cuda". Sampled ids cross to the host once per step.
"""

from __future__ import annotations

import structlog
import torch
from torch import Tensor

from shoal.kernels.paged_batch import PagedBatch

from ..core.config import CacheConfig, SchedulerConfig
from ..core.output import ModelRunnerOutput, SchedulerOutput
from ..models.causal_lm import CausalLM
from .input_batch import InputBatch, StepInputs
from .kv_cache import allocate_kv_caches
from .prompt_logprobs import PromptLogprobs
from .sampler import SamplerOutput, sample
from .sampling_table import SamplingTable

log = structlog.get_logger(__name__)


class TorchModelRunner:
    """Implements `ModelRunner`; owns the KV tensors and the persistent batch.

    Raises RuntimeError (from torch) when the KV cache does not fit the device.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        cache: CacheConfig,
        scheduler: SchedulerConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        config = model.config
        self._model = model
        self._cache = cache
        self._device = device
        self._kv_caches = allocate_kv_caches(config, cache, dtype=dtype, device=device)
        self._batch = InputBatch(
            max_num_seqs=scheduler.max_num_seqs,
            max_model_len=scheduler.max_model_len,
            block_size=cache.block_size,
            num_groups=len(cache.groups),
            device=device,
        )
        self._sampling = SamplingTable(
            scheduler.max_num_seqs, vocab_size=config.vocab_size, device=device
        )
        self._prompt_logprobs = PromptLogprobs()
        self._broken: set[str] = set()

    @torch.inference_mode()
    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput:
        """Compute one step; `ModelRunner` and `SchedulerOutput` state the contract."""
        self._update_rows(scheduler_output)
        if not scheduler_output.num_scheduled_tokens:
            return ModelRunnerOutput(req_ids=[], sampled_token_ids=[])
        inputs = self._batch.prepare(scheduler_output)
        hidden = self._forward(inputs)
        prompt_logprobs = self._prompt_logprobs.collect(
            inputs, self._batch.history, hidden, self._model.compute_logits
        )
        sampled = self._sample(inputs, hidden)
        token_ids = sampled.token_ids.cpu().numpy()
        self._batch.advance(inputs, token_ids)

        sampling_ids = [inputs.req_ids[i] for i in inputs.samples.nonzero()[0].tolist()]
        self._warn_of_broken([sampling_ids[row] for row in sampled.broken_rows])
        new_token_ids = {id_: [t] for id_, t in zip(sampling_ids, token_ids.tolist(), strict=True)}
        return ModelRunnerOutput(
            req_ids=inputs.req_ids,
            sampled_token_ids=[new_token_ids.get(id_, []) for id_ in inputs.req_ids],
            logprobs={sampling_ids[row]: [report] for row, report in sampled.logprobs.items()},
            prompt_logprobs=prompt_logprobs,
        )

    def _update_rows(self, scheduler_output: SchedulerOutput) -> None:
        for gone in (scheduler_output.finished_req_ids, scheduler_output.preempted_req_ids):
            self._batch.remove(gone)
            self._prompt_logprobs.remove(gone)
            self._broken.difference_update(gone)
        for new in scheduler_output.scheduled_new_reqs:
            self._sampling.set_row(self._batch.add(new), new)
            self._prompt_logprobs.add(new)
        for request_id, block_ids in scheduler_output.new_block_ids.items():
            self._batch.append_blocks(request_id, block_ids)

    def _forward(self, inputs: StepInputs) -> Tensor:
        """Hidden states [num_tokens, hidden_size] of the step; fills the KV cache."""
        batches = [
            PagedBatch(
                query_lens=inputs.query_lens,
                seq_lens=inputs.seq_lens,
                block_tables=block_tables,
                slot_mapping=slot_mapping,
                block_size=self._cache.block_size,
                sliding_window=group.sliding_window,
            )
            for group, block_tables, slot_mapping in zip(
                self._cache.groups, inputs.block_tables, inputs.slot_mapping, strict=True
            )
        ]
        return self._model(inputs.input_ids, inputs.positions, self._kv_caches, batches)

    def _sample(self, inputs: StepInputs, hidden: Tensor) -> SamplerOutput:
        """A token for each request that samples in this step; logits exist for those rows only."""
        last_tokens = torch.from_numpy(inputs.last_tokens[inputs.samples]).to(self._device)
        if not last_tokens.numel():
            return SamplerOutput(token_ids=last_tokens, logprobs={}, broken_rows=[])
        logits = self._model.compute_logits(hidden[last_tokens])
        plan = self._sampling.plan(inputs.rows[inputs.samples], self._batch.history)
        return sample(logits, plan)

    def _warn_of_broken(self, request_ids: list[str]) -> None:
        """Say once per request that the model gave it logits that are not numbers."""
        for request_id in request_ids:
            if request_id not in self._broken:
                self._broken.add(request_id)
                log.warning("runner.broken_logits", request_id=request_id)
