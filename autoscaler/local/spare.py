"""A process that waits for an order: the next worker begins with its imports done.

It holds no model. One is kept while a next worker may be wanted and none is starting; the cores of
this machine are for those that have something to do first.
"""

from __future__ import annotations

import structlog

from shoal.clock import Clock

from .process import Launch, WorkerProcess

AGAIN_S = 30.0
"""After one could not be started, or ended of itself."""
_log = structlog.get_logger(__name__)


class Spare:
    """At most one process. Use: `keep` whenever one may be wanted, `take` for a start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._process: WorkerProcess | None = None
        self._launch: Launch | None = None
        self._not_before = float("-inf")
        self._is_spawning = False
        self._is_closed = False

    async def keep(self, launch: Launch) -> None:
        """Have one, if this is not too soon after a failure."""
        if self._process is not None and self._process.has_ended:
            _log.warning("spare.ended", pid=self._process.pid)
            self._process = None
            self._not_before = self._clock.now() + AGAIN_S
        is_wanted = self._process is None and not self._is_spawning and not self._is_closed
        if not is_wanted or self._clock.now() < self._not_before:
            return
        self._is_spawning = True
        try:
            self._process, self._launch = await WorkerProcess.spawn(launch), launch
        except OSError as error:
            _log.warning("spare.not_started", error=str(error))
            self._not_before = self._clock.now() + AGAIN_S
        finally:
            self._is_spawning = False
        if self._is_closed:
            self.close()

    @property
    def pid(self) -> int | None:
        """Of the process that waits, if there is one."""
        process = self._process
        return None if process is None or process.has_ended else process.pid

    def take(self, launch: Launch) -> WorkerProcess | None:
        """The process, if it suits a launch: the same program in the same environment."""
        process, kept = self._process, self._launch
        if process is None or kept is None or process.has_ended:
            return None
        if (kept.command, kept.environment) != (launch.command, launch.environment):
            return None
        self._process = None
        return process

    def close(self) -> None:
        """Kill it: it has nothing to finish. There will be no other."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()
            self._process = None
