"""The states of one worker: tables of events, and what each is answered with."""

from __future__ import annotations

import itertools

import pytest

from shoal.autoscaler.local.lifecycle import (
    Action,
    Event,
    Lifecycle,
    Timing,
    WorkerState,
    advance,
    begin,
)

TIMING = Timing(
    start_timeout_s=100, drain_timeout_s=30, grace_s=10, first_delay_s=1, max_delay_s=8,
    stable_s=60,
)  # fmt: skip
S, E, A = WorkerState, Event, Action


def worker(state: WorkerState, **fields: float) -> Lifecycle:
    return Lifecycle(**{"state": state, "since": 0.0, "deadline": None, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "event", "then", "actions"),
    [
        (S.STARTING, E.LOADED, S.READY, [A.REGISTER]),
        (S.STARTING, E.EXITED, S.BACKING_OFF, []),
        (S.STARTING, E.RELEASE, S.STOPPING, [A.TERMINATE]),
        (S.STARTING, E.STOP, S.STOPPING, [A.TERMINATE]),
        (S.READY, E.EXITED, S.BACKING_OFF, [A.UNREGISTER]),
        (S.READY, E.RELEASE, S.DRAINING, [A.UNREGISTER]),
        (S.READY, E.STOP, S.STOPPING, [A.TERMINATE]),
        (S.DRAINING, E.RECALL, S.READY, [A.REGISTER]),
        (S.DRAINING, E.DRAINED, S.STOPPING, [A.TERMINATE]),
        (S.DRAINING, E.EXITED, S.STOPPED, [A.UNREGISTER]),
        (S.DRAINING, E.STOP, S.STOPPING, [A.TERMINATE]),
        (S.STOPPING, E.EXITED, S.STOPPED, []),
        (S.BACKING_OFF, E.RELEASE, S.STOPPED, []),
        (S.BACKING_OFF, E.STOP, S.STOPPED, []),
    ],
)
def test_what_follows(
    state: WorkerState, event: Event, then: WorkerState, actions: list[Action]
) -> None:
    after, asked = advance(worker(state), event, 7.0, TIMING)
    assert (after.state, list(asked), after.since) == (then, actions, 7.0)


TOLD = {
    S.STARTING: {E.LOADED, E.EXITED, E.RELEASE, E.STOP},
    S.READY: {E.EXITED, E.RELEASE, E.STOP, E.HUNG},
    S.DRAINING: {E.RECALL, E.DRAINED, E.EXITED, E.STOP},
    S.STOPPING: {E.EXITED},
    S.BACKING_OFF: {E.RELEASE, E.STOP},
    S.STOPPED: set(),
}


def test_what_comes_too_late_changes_nothing() -> None:
    for state, event in itertools.product(WorkerState, Event):
        if event not in TOLD[state]:
            before = worker(state)
            assert advance(before, event, 7.0, TIMING) == (before, ()), (state, event)


@pytest.mark.parametrize(
    ("state", "then", "action"),
    [
        (S.STARTING, S.STARTING, A.KILL),  # its end is a failure like others
        (S.DRAINING, S.STOPPING, A.TERMINATE),
        (S.STOPPING, S.STOPPING, A.KILL),
        (S.BACKING_OFF, S.STARTING, A.LAUNCH),
    ],
)
def test_what_takes_too_long_is_ended_with_force(
    state: WorkerState, then: WorkerState, action: Action
) -> None:
    waiting = worker(state, deadline=5.0)
    assert advance(waiting, E.TICK, 4.9, TIMING) == (waiting, ())
    after, actions = advance(waiting, E.TICK, 5.0, TIMING)
    assert (after.state, actions) == (then, (action,))
    assert after.deadline is not None
    assert after.deadline > 5.0


def test_one_that_hangs_is_killed_and_its_end_is_a_failure() -> None:
    ready = worker(S.READY)
    assert advance(ready, E.HUNG, 7.0, TIMING) == (ready, (A.KILL,))
    assert advance(ready, E.EXITED, 7.0, TIMING)[0].num_failures == 1


def test_deadlines() -> None:
    starting, actions = begin(0.0, TIMING)
    assert (starting.state, actions, starting.deadline) == (S.STARTING, (A.LAUNCH,), 100.0)
    ready, _ = advance(starting, E.LOADED, 2.0, TIMING)
    assert ready.deadline is None
    draining, _ = advance(ready, E.RELEASE, 5.0, TIMING)
    assert draining.deadline == 35.0
    stopping, _ = advance(draining, E.DRAINED, 6.0, TIMING)
    assert stopping.deadline == 16.0


def test_delays_double_up_to_a_bound() -> None:
    life, now, delays = begin(0.0, TIMING)[0], 0.0, []
    for _ in range(6):
        life, _ = advance(life, E.EXITED, now, TIMING)
        assert life.deadline is not None
        delays.append(life.deadline - now)
        now = life.deadline
        life, [action] = advance(life, E.TICK, now, TIMING)
        assert action is A.LAUNCH
    assert delays == [1, 2, 4, 8, 8, 8]
    assert life.num_failures == 6
    tired = worker(S.STARTING, num_failures=100_000)
    assert advance(tired, E.EXITED, 0.0, TIMING)[0].deadline == 8


@pytest.mark.parametrize(("ready_s", "delay_s"), [(59.0, 8.0), (60.0, 1.0)])
def test_a_worker_that_served_for_long_is_restarted_soon(ready_s: float, delay_s: float) -> None:
    serving = worker(S.READY, num_failures=5)
    assert advance(serving, E.EXITED, ready_s, TIMING)[0].deadline == ready_s + delay_s


def test_who_counts_as_a_replica() -> None:
    wanted = {state for state in WorkerState if worker(state).is_wanted}
    assert wanted == {S.STARTING, S.READY, S.BACKING_OFF}


@pytest.mark.parametrize("wrong", [{"first_delay_s": 0}, {"max_delay_s": 0.1}, {"grace_s": -1}])
def test_wrong_timing(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Timing(**wrong)
