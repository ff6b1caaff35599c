"""Which workers a number means."""

from __future__ import annotations

import pytest

from shoal.autoscaler.local.lifecycle import Lifecycle, WorkerState
from shoal.autoscaler.local.plan import Plan, plan

S = WorkerState


def workers(*states: WorkerState | tuple[WorkerState, float]) -> dict[int, Lifecycle]:
    """Slot 0 and up; with a time it came into that state then, else all at 0."""
    told = [state if isinstance(state, tuple) else (state, 0.0) for state in states]
    return {
        slot: Lifecycle(state=state, since=since, deadline=None)
        for slot, (state, since) in enumerate(told)
    }


@pytest.mark.parametrize(
    ("present", "desired", "expected"),
    [
        (workers(), 0, Plan()),
        (workers(), 2, Plan(begin=(0, 1))),
        (workers(S.READY, S.STARTING), 2, Plan()),
        (workers(S.READY, S.BACKING_OFF), 2, Plan()),  # it comes back by itself
        (workers(S.READY), 3, Plan(begin=(1, 2))),
        (workers(S.READY), 9, Plan(begin=(1, 2, 3))),  # as many as there are slots
        # One that still drains is there at once; the one that has drained the least, first.
        (workers(S.READY, S.DRAINING), 2, Plan(recall=(1,))),
        (workers((S.DRAINING, 1.0), (S.DRAINING, 2.0)), 1, Plan(recall=(1,))),
        (workers(S.DRAINING), 2, Plan(recall=(0,), begin=(1,))),
        # A slot is free once its worker has ended.
        (workers(S.STOPPING, S.STOPPING, S.STOPPING, S.READY), 2, Plan()),
        (workers(S.STOPPING, S.READY), 2, Plan(begin=(2,))),
        # Given up: who serves least.
        (workers(S.READY, S.READY), 0, Plan(release=(0, 1))),
        (workers(S.READY, S.STARTING, S.BACKING_OFF), 1, Plan(release=(2, 1))),
        (workers((S.READY, 1.0), (S.READY, 3.0), (S.READY, 2.0)), 1, Plan(release=(1, 2))),
        (workers(S.DRAINING, S.READY), 1, Plan()),
    ],
)
def test_plan(present: dict[int, Lifecycle], desired: int, expected: Plan) -> None:
    assert plan(present, desired, num_slots=4) == expected
