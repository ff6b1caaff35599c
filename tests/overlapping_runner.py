"""A fake runner whose results are late: a step may be submitted before the last one was heard of.

It computes in the order of submission, as a device does, and keeps what it sampled to itself
until it is asked. Copies between host and device count as running until then, too.
"""

from __future__ import annotations

from typing import Any

from shoal.engine.core.output import BlockCopies, ModelRunnerOutput, SchedulerOutput
from tests.builders import FakeRunner


class DelayedOutput:
    """A step that counts as running until its result is taken."""

    def __init__(
        self, output: ModelRunnerOutput, used_blocks: set[int], host_blocks: set[int]
    ) -> None:
        self.used_blocks = used_blocks
        self.host_blocks = host_blocks
        self.is_over = False
        self._output = output

    def result(self) -> ModelRunnerOutput:
        self.is_over = True
        return self._output


class OverlappingRunner(FakeRunner):
    """Beyond the contract that `FakeRunner` checks, a block changes hands only while no step in
    flight reads or writes it."""

    def __init__(self, **shape: Any) -> None:
        super().__init__(**shape)
        self.steps: list[DelayedOutput] = []
        self._used: set[int] = set()

    def submit(self, out: SchedulerOutput) -> DelayedOutput:  # type: ignore[override]
        self.steps = [step for step in self.steps if not step.is_over]
        assert len(self.steps) < 2
        copies = out.copies or BlockCopies([], [])
        saved, overwritten = map(set, zip(*copies.saves, strict=True)) if copies.saves else ((), ())
        for step in self.steps:
            assert not step.used_blocks & self._handed_out(out)
            assert not step.used_blocks & set(saved)
            assert not step.host_blocks & set(overwritten)
        self._used = {block_id for _, block_id in copies.loads}
        output = self.execute_model(out)
        read = {host_id for host_id, _ in copies.loads}
        assert not read & set(overwritten)
        self.steps.append(DelayedOutput(output, self._used, read | set(overwritten)))
        return self.steps[-1]

    def _handed_out(self, out: SchedulerOutput) -> set[int]:
        """Blocks whose content of before is lost."""
        handed = {b for tables in out.new_block_ids.values() for table in tables for b in table}
        for new in out.scheduled_new_reqs:
            num_cached = new.num_computed_tokens // self.block_size
            handed.update(b for table in new.block_ids for b in table[num_cached:])
        return handed

    def _slot(self, request_id: str, group: int, position: int) -> tuple[int, int, int]:
        slot = super()._slot(request_id, group, position)
        self._used.add(slot[1])
        return slot
