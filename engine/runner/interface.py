"""The seam between the step loop and whatever computes tokens (torch, a fake, a simulator)."""

from __future__ import annotations

from typing import Protocol

from ..core.output import ModelRunnerOutput, SchedulerOutput
from .pending import Pending


class ModelRunner(Protocol):
    """Executes steps in the order in which they are submitted.

    The runner keeps one row per request: it adds `scheduled_new_reqs`, appends
    `new_block_ids`, forgets finished and preempted requests, and appends what it samples.
    It writes the K and V of *all* tokens of a step before any attention of the same layer
    reads them, so requests of one step may share prefix blocks that the step itself fills.

    One more step may be submitted while the result of the one before is pending. The second then
    computes tokens that the host does not know yet: it takes what the first sampled.
    """

    def submit(self, scheduler_output: SchedulerOutput) -> Pending[ModelRunnerOutput]:
        """Begin a step. Results are asked for in the same order."""
        ...
