"""Runs a scheduler step: batch, forward, sample. The same on every backend."""

from __future__ import annotations

import structlog

from ..core.config import CacheConfig, SchedulerConfig
from ..core.output import ModelRunnerOutput, SchedulerOutput
from .backend import Backend
from .input_batch import InputBatch, StepInputs
from .prompt_logprobs import PromptLogprobs
from .sampling_plan import SamplerOutput
from .sampling_table import SamplingTable

log = structlog.get_logger(__name__)


class PagedModelRunner:
    """Implements `ModelRunner`; owns the persistent batch, the backend owns model and KV cache."""

    def __init__(self, backend: Backend, *, cache: CacheConfig, scheduler: SchedulerConfig) -> None:
        self._backend = backend
        self._batch = InputBatch(
            max_num_seqs=scheduler.max_num_seqs,
            max_model_len=scheduler.max_model_len,
            block_size=cache.block_size,
            num_groups=len(cache.groups),
        )
        self._sampling = SamplingTable(scheduler.max_num_seqs, vocab_size=backend.vocab_size)
        self._prompt_logprobs = PromptLogprobs()
        self._broken: set[str] = set()

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput:
        """Compute one step; `ModelRunner` and `SchedulerOutput` state the contract."""
        self._update_rows(scheduler_output)
        if not scheduler_output.num_scheduled_tokens:
            return ModelRunnerOutput(req_ids=[], sampled_token_ids=[])
        inputs = self._batch.prepare(scheduler_output)
        sampled = self._compute(inputs)
        prompt_logprobs = self._prompt_logprobs.collect(
            inputs, self._batch.history, self._backend.token_logprobs
        )
        self._batch.advance(inputs, sampled.token_ids)

        sampling_ids = [inputs.req_ids[i] for i in inputs.samples.nonzero()[0].tolist()]
        self._warn_of_broken([sampling_ids[row] for row in sampled.broken_rows])
        token_ids = sampled.token_ids.tolist()
        new_token_ids = {id_: [t] for id_, t in zip(sampling_ids, token_ids, strict=True)}
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

    def _compute(self, inputs: StepInputs) -> SamplerOutput:
        """A token for each request that samples in this step; logits exist for those rows only."""
        last_tokens = inputs.last_tokens[inputs.samples]
        plan = None
        if last_tokens.size:
            plan = self._sampling.plan(inputs.rows[inputs.samples], self._batch.history)
        sampled = self._backend.step(inputs, last_tokens, plan)
        return sampled or SamplerOutput(token_ids=last_tokens, logprobs={}, broken_rows=[])

    def _warn_of_broken(self, request_ids: list[str]) -> None:
        """Say once per request that the model gave it logits that are not numbers."""
        for request_id in request_ids:
            if request_id not in self._broken:
                self._broken.add(request_id)
                log.warning("runner.broken_logits", request_id=request_id)
