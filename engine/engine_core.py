"""The step: schedule, execute, book. The only caller of `Scheduler` and `ModelRunner`.

A request's own problems are values (`Rejection`, `FinishReason`). An exception in a step means
that scheduler and runner may no longer agree, so it is not caught here: it ends the core.
"""

from __future__ import annotations

from collections.abc import Iterable

from shoal.clock import Clock

from .core.kv_cache_events import KVCacheEvent
from .core.output import EngineCoreOutputs, Rejection
from .core.request import Request, RequestStatus
from .core.scheduler import Scheduler
from .core.stats import SchedulerStats
from .runner.interface import ModelRunner


class EngineCore:
    """Requests in, one `EngineCoreOutputs` per step out; no I/O, no thread, no clock of its own."""

    def __init__(self, scheduler: Scheduler, runner: ModelRunner, clock: Clock) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self.num_steps = 0

    def add_request(self, request: Request) -> Rejection | None:
        """Queue a request, or say why not."""
        return self._scheduler.add_request(request)

    def abort(self, request_ids: Iterable[str]) -> None:
        """Drop requests; ids that ended already are ignored. Their blocks are free at once."""
        self._scheduler.finish_requests(request_ids, RequestStatus.FINISHED_ABORTED)

    def has_work(self) -> bool:
        """Whether a step would do anything: compute, or tell the runner who has left."""
        return self._scheduler.has_unfinished_requests() or self._scheduler.has_finished_requests()

    def step(self) -> EngineCoreOutputs:
        """Compute one step for every request that fits into it."""
        scheduled = self._scheduler.schedule(self._clock.now())
        computed = self._runner.submit(scheduled).result()
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
