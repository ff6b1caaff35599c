"""Runs a scheduler step: batch, forward, sample. The same on every backend."""

from __future__ import annotations

from collections.abc import Callable

from ..core.config import CacheConfig, SchedulerConfig
from ..core.output import ModelRunnerOutput, SchedulerOutput
from .backend import Backend, BlockCopier
from .input_batch import InputBatch, StepInputs
from .pending import Computed, Pending
from .prompt_logprobs import PromptLogprobs
from .sampling_plan import SamplingPlan
from .sampling_table import SamplingTable
from .submitted_step import SubmittedStep


def ignore(request_id: str) -> None:
    """For callers that do not want to know."""


class PagedModelRunner:
    """Implements `ModelRunner`; owns the persistent batch, the backend owns model and KV cache.

    `on_broken_logits` hears once of each request that the model gave logits that are not numbers.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        cache: CacheConfig,
        scheduler: SchedulerConfig,
        on_broken_logits: Callable[[str], None] = ignore,
    ) -> None:
        self._on_broken_logits = on_broken_logits
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
        self._newest: SubmittedStep | None = None

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput:
        """Submit a step and wait for it."""
        return self.submit(scheduler_output).result()

    def submit(self, scheduler_output: SchedulerOutput) -> Pending[ModelRunnerOutput]:
        """Begin a step; `ModelRunner` and `SchedulerOutput` state the contract."""
        self._update_rows(scheduler_output)
        if scheduler_output.copies is not None:
            assert isinstance(self._backend, BlockCopier)
            self._backend.copy_blocks(scheduler_output.copies)
        if not scheduler_output.num_scheduled_tokens:
            return Computed(ModelRunnerOutput(req_ids=[], sampled_token_ids=[]))
        inputs = self._batch.prepare(scheduler_output)
        last_tokens = inputs.last_tokens[inputs.samples]
        sample = self._backend.submit(inputs, last_tokens, self._plan(inputs))
        # Before the next step overwrites the hidden states that they are made from.
        prompt_logprobs = self._prompt_logprobs.collect(
            inputs, self._batch.history, self._backend.token_logprobs
        )
        self._newest = SubmittedStep(
            inputs,
            sample,
            self._batch,
            self._batch.advance(inputs),
            prompt_logprobs=prompt_logprobs,
            warn_of_broken=self._warn_of_broken,
        )
        return self._newest

    def _update_rows(self, scheduler_output: SchedulerOutput) -> None:
        for gone in (scheduler_output.finished_req_ids, scheduler_output.preempted_req_ids):
            self._batch.remove(gone)
            self._prompt_logprobs.remove(gone)
            self._broken.difference_update(gone)
        for new in scheduler_output.scheduled_new_reqs:
            self._sampling.set_row(self._batch.add(new), new)
            self._prompt_logprobs.add(new)
        if scheduler_output.new_block_ids:
            self._batch.append_all(scheduler_output.new_block_ids)

    def _plan(self, inputs: StepInputs) -> SamplingPlan | None:
        """For each request that samples in this step; logits exist for those rows only."""
        rows = inputs.rows[inputs.samples]
        if not rows.size:
            return None
        if inputs.sampled_before is not None and self._sampling.reads_outputs(rows):
            assert self._newest is not None
            self._newest.result()  # a penalty must know the token before: no overlap here
        return self._sampling.plan(rows, self._batch.history)

    def _warn_of_broken(self, request_ids: list[str]) -> None:
        """Tell of each request once."""
        for request_id in request_ids:
            if request_id not in self._broken and request_id in self._batch:
                self._broken.add(request_id)
                self._on_broken_logits(request_id)
