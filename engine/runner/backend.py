"""The seam between the runner's bookkeeping and what computes: torch, or the CPU kernels."""

from __future__ import annotations

from typing import Protocol

from ..core.output import TokenLogprobs
from .input_batch import StepInputs
from .sampling_plan import LongInts, SamplerOutput, SamplingPlan


class Backend(Protocol):
    """A model with its KV cache. One call at a time; `tokens` are indices into the last step's."""

    vocab_size: int

    def forward(self, inputs: StepInputs) -> None:
        """Compute a step: K and V go to the cache, hidden states stay until the next step.

        The K and V of all tokens are written before any attention of the same layer reads them.
        """
        ...

    def sample(self, tokens: LongInts, plan: SamplingPlan) -> SamplerOutput:
        """Choose what follows each of `tokens` [num_rows]; a row of the plan for each."""
        ...

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        """How likely each target is to follow its token; `num_top` of the best beside it."""
        ...
