"""The torch backend as one that keeps what it sampled to itself, on a CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shoal.engine.runner.input_batch import StepInputs
from shoal.engine.runner.sampling_plan import LongInts, SamplerOutput, SamplingPlan
from shoal.engine.runner.torch_backend import TorchBackend


class LateSample:
    """Counts as running until it is asked for."""

    def __init__(self, sampled: SamplerOutput | None) -> None:
        self.is_over = False
        self._sampled = sampled

    def result(self) -> SamplerOutput | None:
        self.is_over = True
        return self._sampled


class OverlappingBackend(TorchBackend):
    """Reads `sampled_before` as a GPU would: from the ids of its last step, which it remembers."""

    max_in_flight = 2
    num_overlapped = 0
    """Steps that were submitted while one was running."""
    num_taken = 0
    """Ids that a step took from the one before."""
    _last: LateSample | None = None
    _token_ids: LongInts = np.empty(0, np.int64)

    def submit(self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None) -> LateSample:
        self.num_overlapped += self._last is not None and not self._last.is_over
        input_ids = inputs.input_ids.copy()
        if inputs.sampled_before is not None:
            pending = inputs.sampled_before >= 0
            input_ids[pending] = self._token_ids[inputs.sampled_before[pending]]
            self.num_taken += int(pending.sum())
        sampled = self.step(replace(inputs, input_ids=input_ids), tokens, plan)
        self._token_ids = np.empty(0, np.int64) if sampled is None else sampled.token_ids
        self._last = LateSample(sampled)
        return self._last
