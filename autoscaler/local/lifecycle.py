"""One worker's states: a pure function of what happened. Time is an argument, effects are values.

    STARTING -> READY -> DRAINING -> STOPPING -> STOPPED
       |  ^       |          (taken back: READY again)
       v  |       v
    BACKING_OFF <-+      its process has ended though nobody asked; started again after a delay

The delay doubles with each failure in a row, as for containers in Kubernetes (CrashLoopBackOff). A
worker that was ready for `stable_s` has earned a short one again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class WorkerState(enum.StrEnum):
    STARTING = "starting"
    """The process runs, or is about to; the model is not loaded yet."""
    READY = "ready"
    DRAINING = "draining"
    """The router sends it nothing new; what it has may end."""
    STOPPING = "stopping"
    """Asked to end, at last forced to."""
    BACKING_OFF = "backing_off"
    """No process; the next one starts when the delay is over."""
    STOPPED = "stopped"
    """For good."""


class Event(enum.Enum):
    LOADED = enum.auto()
    """The process serves its model."""
    EXITED = enum.auto()
    """The process has ended, whoever wanted it."""
    RELEASE = enum.auto()
    """It is not needed any more."""
    RECALL = enum.auto()
    """It is needed after all."""
    STOP = enum.auto()
    """The router is gone: there is nothing left to drain."""
    HUNG = enum.auto()
    """It has not answered for too long."""
    DRAINED = enum.auto()
    """It has no request any more, and gets none."""
    TICK = enum.auto()
    """Time has passed: look at the deadline."""


class Action(enum.Enum):
    LAUNCH = enum.auto()
    REGISTER = enum.auto()
    """Tell the router of it; again after a recall."""
    UNREGISTER = enum.auto()
    """Nothing new goes there; the answer to when it is empty is DRAINED."""
    TERMINATE = enum.auto()
    KILL = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds; what takes longer is ended with more force."""

    start_timeout_s: float = 600.0
    """From the launch until the model is loaded."""
    drain_timeout_s: float = 30.0
    """For requests under way, before SIGTERM."""
    hung_after_s: float = 180.0
    """A worker that the router finds unhealthy for so long is killed, and started again. An engine
    core that hangs is restarted by its own worker before that."""
    grace_s: float = 10.0
    """From SIGTERM to SIGKILL."""
    first_delay_s: float = 0.5
    """Before the first restart; doubles with each failure in a row."""
    max_delay_s: float = 60.0
    stable_s: float = 60.0
    """A worker that was ready for so long has no failures."""

    def __post_init__(self) -> None:
        if self.first_delay_s <= 0 or self.max_delay_s < self.first_delay_s:
            raise ValueError("delays must be 0 < first_delay_s <= max_delay_s")
        timeouts = (self.start_timeout_s, self.drain_timeout_s, self.hung_after_s, self.grace_s)
        if min(*timeouts, self.stable_s) < 0:
            raise ValueError("timeouts must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """Where one worker is."""

    state: WorkerState
    since: float
    """When it came into this state."""
    deadline: float | None
    """When TICK changes something."""
    num_failures: int = 0
    """Ends in a row that nobody asked for."""

    @property
    def is_wanted(self) -> bool:
        """Whether it counts as a replica: it serves, or will."""
        return self.state in (WorkerState.STARTING, WorkerState.READY, WorkerState.BACKING_OFF)


Step = tuple[Lifecycle, tuple[Action, ...]]


def begin(now: float, timing: Timing) -> Step:
    """A new worker."""
    return _starting(now, timing, num_failures=0), (Action.LAUNCH,)


def advance(worker: Lifecycle, event: Event, now: float, timing: Timing) -> Step:
    """What follows from an event, and what is to be done. An event that says nothing in this
    state (it came too late, for example) changes nothing."""
    state = worker.state
    match state, event:
        case WorkerState.STARTING, Event.LOADED:
            return _into(worker, WorkerState.READY, now), (Action.REGISTER,)
        case ((WorkerState.STARTING | WorkerState.READY), Event.EXITED):
            actions = (Action.UNREGISTER,) if state is WorkerState.READY else ()
            return _failed(worker, now, timing), actions
        case ((WorkerState.DRAINING | WorkerState.STOPPING), Event.EXITED):
            actions = (Action.UNREGISTER,) if state is WorkerState.DRAINING else ()
            return _into(worker, WorkerState.STOPPED, now), actions
        case WorkerState.READY, Event.HUNG:
            return worker, (Action.KILL,)  # its end is a failure like others
        case WorkerState.READY, Event.RELEASE:
            draining = _into(worker, WorkerState.DRAINING, now, timeout_s=timing.drain_timeout_s)
            return draining, (Action.UNREGISTER,)
        case WorkerState.STARTING, Event.RELEASE:
            return _stopping(worker, now, timing)
        case ((WorkerState.STARTING | WorkerState.READY | WorkerState.DRAINING), Event.STOP):
            return _stopping(worker, now, timing)
        case WorkerState.BACKING_OFF, (Event.RELEASE | Event.STOP):
            return _into(worker, WorkerState.STOPPED, now), ()
        case WorkerState.DRAINING, Event.RECALL:
            return _into(worker, WorkerState.READY, now), (Action.REGISTER,)
        case WorkerState.DRAINING, Event.DRAINED:
            return _stopping(worker, now, timing)
        case _, Event.TICK if worker.deadline is not None and now >= worker.deadline:
            return _overdue(worker, now, timing)
        case _:
            return worker, ()


def _overdue(worker: Lifecycle, now: float, timing: Timing) -> Step:
    match worker.state:
        case WorkerState.BACKING_OFF:
            starting = _starting(now, timing, num_failures=worker.num_failures)
            return starting, (Action.LAUNCH,)
        case WorkerState.DRAINING:
            return _stopping(worker, now, timing)
        case _:
            # A start that hangs is killed, and its end counts as a failure; one that does not heed
            # SIGTERM likewise. The deadline moves, so that a kill that fails is tried again.
            return replace(worker, deadline=now + max(timing.grace_s, 1.0)), (Action.KILL,)


def _starting(now: float, timing: Timing, *, num_failures: int) -> Lifecycle:
    return Lifecycle(
        state=WorkerState.STARTING,
        since=now,
        deadline=now + timing.start_timeout_s,
        num_failures=num_failures,
    )


def _stopping(worker: Lifecycle, now: float, timing: Timing) -> Step:
    stopping = _into(worker, WorkerState.STOPPING, now, timeout_s=timing.grace_s)
    return stopping, (Action.TERMINATE,)


def _failed(worker: Lifecycle, now: float, timing: Timing) -> Lifecycle:
    was_stable = worker.state is WorkerState.READY and now - worker.since >= timing.stable_s
    num_failures = 1 if was_stable else worker.num_failures + 1
    # 2 ** 63 would be an odd number of seconds to compute before min() cuts it.
    doublings = min(num_failures - 1, 30)
    delay_s = min(timing.first_delay_s * 2.0**doublings, timing.max_delay_s)
    failed = _into(worker, WorkerState.BACKING_OFF, now, timeout_s=delay_s)
    return replace(failed, num_failures=num_failures)


def _into(
    worker: Lifecycle, state: WorkerState, now: float, *, timeout_s: float | None = None
) -> Lifecycle:
    deadline = None if timeout_s is None else now + timeout_s
    return replace(worker, state=state, since=now, deadline=deadline)
