"""Worker processes of this machine as one variant's `Target`."""

from __future__ import annotations

from shoal.errors import ScaleFailed

from ..core.decision import Decision
from ..target import Replicas
from .lifecycle import WorkerState
from .supervisor import Supervisor

_HOPELESS = 3
"""Failures in a row after which a worker does not count as coming any more."""


class LocalTarget:
    """A `Target`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def replicas(self) -> Replicas:
        """What there is now; a worker that keeps failing is one without a place."""
        workers = self._supervisor
        return Replicas(
            desired=workers.desired,
            ready=workers.count(WorkerState.READY),
            pending=workers.count(WorkerState.STARTING, WorkerState.BACKING_OFF),
            unschedulable=sum(
                worker.life.num_failures >= _HOPELESS
                and worker.life.state is not WorkerState.READY
                and worker.life.is_wanted
                for worker in workers.workers.values()
            ),
            draining=workers.count(WorkerState.DRAINING, WorkerState.STOPPING),
            start_up_s=workers.take_start_ups(),
        )

    async def scale(self, desired: int, decision: Decision) -> None:
        """Raises ScaleFailed when there is no place for so many."""
        try:
            self._supervisor.want(desired)
        except ValueError as error:
            raise ScaleFailed(str(error)) from error
