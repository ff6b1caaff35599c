"""The seam between the runner's bookkeeping and what computes: torch, or the CPU kernels."""

from __future__ import annotations

from typing import Protocol

from ..core.output import TokenLogprobs
from .input_batch import StepInputs
from .sampling_plan import LongInts, SamplerOutput, SamplingPlan


class Backend(Protocol):
    """A model with its KV cache. One call at a time; `tokens` are indices into a step's."""

    vocab_size: int

    def step(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> SamplerOutput | None:
        """Compute a step, and choose what follows each of `tokens`, a row of `plan` each.

        K and V go to the cache, those of all tokens before any attention of the same layer reads
        them. Without a plan nothing is chosen. Hidden states stay until the next step.
        """
        ...

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        """How likely each target is to follow its token of the last step; `num_top` of the best
        beside it."""
        ...
