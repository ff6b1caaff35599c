"""The seam between the runner's bookkeeping and what computes: torch, or the CPU kernels."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..core.output import BlockCopies, TokenLogprobs
from .input_batch import StepInputs
from .pending import Pending
from .sampling_plan import LongInts, SamplerOutput, SamplingPlan

PendingSample = Pending[SamplerOutput | None]
"""What a submitted step chooses; None when it had no plan. `result` waits for the device."""


class Backend(Protocol):
    """A model with its KV cache. One call at a time; `tokens` are indices into a step's."""

    vocab_size: int
    max_in_flight: int
    """Steps that may be submitted before the first of them has been waited for: 1, or 2 for a
    backend that keeps what it sampled on the device and reads `StepInputs.sampled_before`."""

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        """Compute a step, and choose what follows each of `tokens`, a row of `plan` each.

        Steps run in the order of their submission. K and V go to the cache, those of all tokens
        before any attention of the same layer reads them. Without a plan nothing is chosen. Hidden
        states stay until the next step. The arrays of `inputs` and `plan` are this step's own:
        nobody writes to them afterwards.
        """
        ...

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        """How likely each target is to follow its token of the last step; `num_top` of the best
        beside it."""
        ...


@runtime_checkable
class BlockCopier(Protocol):
    """What a backend is, too, whose cache has host blocks (`CacheConfig.num_host_blocks`)."""

    def copy_blocks(self, copies: BlockCopies) -> None:
        """Move blocks between the device and the host, before the next step that is submitted."""
        ...
