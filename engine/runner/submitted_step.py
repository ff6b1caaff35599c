"""A step of the model runner between its submission and its result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.output import ModelRunnerOutput, TokenLogprobs
from .backend import PendingSample
from .input_batch import InputBatch, PendingTokens, StepInputs
from .sampling_plan import SamplerOutput


class SubmittedStep:
    """A `Pending` of the runner: waits for the sampled tokens, and writes them into the batch."""

    def __init__(
        self,
        inputs: StepInputs,
        sample: PendingSample,
        batch: InputBatch,
        tokens: PendingTokens,
        *,
        prompt_logprobs: dict[str, list[TokenLogprobs]],
        warn_of_broken: Callable[[list[str]], None],
    ) -> None:
        self._inputs = inputs
        self._sample = sample
        self._batch = batch
        self._tokens = tokens
        self._prompt_logprobs = prompt_logprobs
        self._warn_of_broken = warn_of_broken
        self._output: ModelRunnerOutput | None = None

    def result(self) -> ModelRunnerOutput:
        if self._output is None:
            sampled = self._sample.result() or _NOTHING
            self._batch.fill(self._tokens, sampled.token_ids)
            self._output = self._make_output(sampled)
        return self._output

    def _make_output(self, sampled: SamplerOutput) -> ModelRunnerOutput:
        inputs = self._inputs
        token_ids = [[token_id] for token_id in sampled.token_ids.tolist()]
        sampling_ids, of_requests = inputs.req_ids, token_ids
        if len(token_ids) < len(inputs.req_ids):
            sampling = inputs.samples.nonzero()[0].tolist()
            sampling_ids = [inputs.req_ids[i] for i in sampling]
            of_requests = [[] for _ in inputs.req_ids]
            for i, new in zip(sampling, token_ids, strict=True):
                of_requests[i] = new
        self._warn_of_broken([sampling_ids[row] for row in sampled.broken_rows])
        return ModelRunnerOutput(
            req_ids=inputs.req_ids,
            sampled_token_ids=of_requests,
            logprobs={sampling_ids[row]: [report] for row, report in sampled.logprobs.items()},
            prompt_logprobs=self._prompt_logprobs,
        )


_NOTHING = SamplerOutput(token_ids=np.empty(0, np.int64), logprobs={}, broken_rows=[])
