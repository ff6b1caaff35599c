"""The step: schedule, submit, collect, book. The only caller of `Scheduler` and `ModelRunner`.

With `max_in_flight` = 2 a step is scheduled and submitted while the one before it runs, so that the
device never waits for the host:

    device  | n            | n + 1        | n + 2
    host        n + 1: ....   n + 2: ....     schedule, submit; then collect and book the one before

A request's own problems are values (`Rejection`, `FinishReason`). An exception in a step means
that scheduler and runner may no longer agree, so it is not caught here: it ends the core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from shoal.clock import Clock

from .core.in_flight import MAX_IN_FLIGHT
from .core.kv_cache_events import KVCacheEvent
from .core.output import EngineCoreOutputs, ModelRunnerOutput, Rejection, SchedulerOutput
from .core.request import Request, RequestStatus
from .core.scheduler import Scheduler
from .core.stats import SchedulerStats
from .runner.interface import ModelRunner
from .runner.pending import Pending
from .runner.profiler import Profiler
from .runner.step_ranges import Ranges, no_ranges


class EngineCore:
    """Requests in, one `EngineCoreOutputs` per step out; no I/O, no thread, no clock of its own."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        clock: Clock,
        *,
        max_in_flight: int = 1,
        ranges: Ranges = no_ranges,
        profiler: Profiler | None = None,
    ) -> None:
        if not 1 <= max_in_flight <= MAX_IN_FLIGHT:
            raise ValueError(
                f"max_in_flight must be between 1 and {MAX_IN_FLIGHT}, got {max_in_flight}"
            )
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._ranges = ranges
        self._in_flight: deque[tuple[SchedulerOutput, Pending[ModelRunnerOutput]]] = deque()
        self.num_steps = 0
        self.profiler = profiler
        """None: profiles are switched off."""

    def add_request(self, request: Request) -> Rejection | None:
        """Queue a request, or say why not."""
        return self._scheduler.add_request(request)

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests; ids that ended already are ignored. Their blocks are free at once, or when
        the step in flight that uses them is over."""
        self._scheduler.finish_requests(request_ids, RequestStatus.FINISHED_ABORTED)

    def has_work(self) -> bool:
        """Whether a step would do anything: compute, or tell the runner who has left."""
        return (
            bool(self._in_flight)
            or self._scheduler.has_unfinished_requests()
            or self._scheduler.has_finished_requests()
        )

    def step(self) -> EngineCoreOutputs:
        """Have a step computed for every request that fits into it, and begin the one after it."""
        if not self._in_flight:
            with self._ranges("schedule"):
                scheduled = self._scheduler.schedule(self._clock.now())
            self._submit(scheduled)
        if len(self._in_flight) < self._max_in_flight:
            with self._ranges("schedule"):
                ahead = self._scheduler.schedule_ahead(self._clock.now())
            if ahead is not None:
                self._submit(ahead)
        return self._collect()

    def _submit(self, scheduled: SchedulerOutput) -> None:
        self._in_flight.append((scheduled, self._runner.submit(scheduled)))

    def _collect(self) -> EngineCoreOutputs:
        """Wait for the oldest step in flight, and book it."""
        scheduled, pending = self._in_flight.popleft()
        with self._ranges("wait"):
            computed = pending.result()
        with self._ranges("book"):
            outputs = self._scheduler.update_from_output(scheduled, computed, self._clock.now())
        self.num_steps += 1
        return outputs

    def record_kv_events(self) -> None:
        """From now on keep what happens to the prefix cache, for `take_kv_events`."""
        self._scheduler.record_kv_events()

    def take_kv_events(self) -> list[KVCacheEvent]:
        """What happened to it since the last call, oldest first."""
        return self._scheduler.take_kv_events()

    def stats(self) -> SchedulerStats:
        return self._scheduler.make_stats()
