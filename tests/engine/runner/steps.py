"""Scheduler outputs written by hand: what a scheduler would send for a given step."""

from __future__ import annotations

from collections.abc import Sequence

from shoal.engine.core.output import NewRequestData, SchedulerOutput


def make_step(
    num_scheduled_tokens: dict[str, int] | None = None,
    *,
    new: Sequence[NewRequestData] = (),
    new_block_ids: dict[str, list[list[int]]] | None = None,
    finished: Sequence[str] = (),
    preempted: Sequence[str] = (),
) -> SchedulerOutput:
    scheduled = num_scheduled_tokens or {}
    return SchedulerOutput(
        scheduled_new_reqs=list(new),
        num_scheduled_tokens=scheduled,
        total_num_scheduled_tokens=sum(scheduled.values()),
        new_block_ids=new_block_ids or {},
        finished_req_ids=list(finished),
        preempted_req_ids=list(preempted),
        reasons=[],
    )
