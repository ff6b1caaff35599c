"""Keeps as many workers as are wanted: the states of `lifecycle` with processes and a router.

Everything runs on one event loop. `advance` decides, this obeys: each action is a task that ends in
an event. Every process and every task is of a worker, every worker of the supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from shoal.clock import Clock, MonotonicClock

from .endpoints import Endpoints, EndpointsUnavailable
from .lifecycle import Action, Event, Lifecycle, Timing, WorkerState, advance, begin
from .plan import plan
from .process import Launch, WorkerProcess
from .spare import Spare

RETRY_S = 0.2
"""Before the router is asked again when it did not answer."""
LOOK_S = 0.25
"""Between looks at whether a draining worker is empty."""
HEALTH_S = 2.0
"""Between looks at what the router says of the workers' health."""
LAST_WORDS_S = 5.0
"""For a process to end after it has closed its pipe without a word."""
KILLED_S = 5.0
"""For killed processes to be gone."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """One slot in use: its process may be replaced, its name stays."""

    slot: int
    life: Lifecycle
    process: WorkerProcess | None = None
    url: str | None = None
    """Of the process that serves; None while it loads."""
    endpoint_id: str | None = None
    """As the router knows it."""
    why: str = ""
    """How the last process ended that was not to end."""
    num_restarts: int = 0
    launched_at: float = 0.0
    start_up_s: float | None = None
    """Of the present process, until it served."""
    unhealthy_since: float | None = None
    """As the router finds it."""
    killed_because: str = ""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """What the router is told of it, it is told in order."""

    @property
    def name(self) -> str:
        return f"worker-{self.slot}"


class Supervisor:
    """Use: `run` as a task; `want` so many; cancel `run` to end all workers."""

    def __init__(
        self,
        launch: Callable[[int], Launch],
        endpoints: Endpoints,
        *,
        num_slots: int,
        timing: Timing | None = None,
        clock: Clock | None = None,
        on_change: Callable[[Worker, WorkerState], None] | None = None,
        on_line: Callable[[Worker, str], None] | None = None,
        keeps_spare: bool = False,
    ) -> None:
        """`launch` says how to start the worker of a slot, 0 and up. `on_change` hears of a worker
        and the state it was in; `on_line` what it writes. `keeps_spare`: a process that waits for
        the next start."""
        self.num_slots = num_slots
        self.desired = 0
        self.workers: dict[int, Worker] = {}
        """By slot; a worker that has stopped is not listed any more."""
        self._launch = launch
        self._endpoints = endpoints
        self._timing = timing or Timing()
        self._clock = clock or MonotonicClock()
        self._on_change = on_change or (lambda worker, before: None)
        self._on_line = on_line or (lambda worker, line: None)
        self._start_ups: list[float] = []
        self._spare = Spare(self._clock) if keeps_spare else None
        self._changed = asyncio.Event()
        self._is_ending = False
        self._tasks: set[asyncio.Task[None]] = set()

    def want(self, desired: int) -> None:
        """Have so many replicas; at most `num_slots`."""
        if not 0 <= desired <= self.num_slots:
            raise ValueError(f"desired must be between 0 and {self.num_slots}, got {desired}")
        self.desired = desired
        if not self._is_ending:
            self._reconcile()

    def now(self) -> float:
        """On the clock that `Lifecycle` times are of."""
        return self._clock.now()

    @property
    def spare_pid(self) -> int | None:
        """Of the process that waits for the next start, if there is one."""
        return None if self._spare is None else self._spare.pid

    def count(self, *states: WorkerState) -> int:
        """Workers in one of these states."""
        return sum(worker.life.state in states for worker in self.workers.values())

    def take_start_ups(self) -> tuple[float, ...]:
        """Seconds that each worker took that became ready since the last call."""
        taken, self._start_ups = tuple(self._start_ups), []
        return taken

    async def run(self) -> None:
        """Until cancelled; then workers are ended, and, when cancelled once more, killed."""
        watching = asyncio.create_task(self._watch_health())
        watching.add_done_callback(self._done)
        try:
            while True:
                self._keep_spare()
                await self._next_deadline()
                self._tick()
                self._reconcile()
        finally:
            self._is_ending = True
            watching.cancel()
            if self._spare is not None:
                self._spare.close()
            try:
                await self._end()
            finally:
                await self._kill_all()

    # What is wanted.

    def _reconcile(self) -> None:
        """Bring the wanted workers to the wanted number."""
        lives = {slot: worker.life for slot, worker in self.workers.items()}
        changes = plan(lives, self.desired, num_slots=self.num_slots)
        for slot in changes.recall:
            self._apply(self.workers[slot], Event.RECALL)
        for slot in changes.release:
            self._apply(self.workers[slot], Event.RELEASE)
        for slot in changes.begin:
            life, actions = begin(self._clock.now(), self._timing)
            worker = self.workers[slot] = Worker(slot, life)
            self._on_change(worker, WorkerState.STOPPED)
            self._act(worker, actions)
            self._changed.set()

    def _keep_spare(self) -> None:
        """For the lowest free slot, unless a start is under way."""
        if self._spare is None or self.count(WorkerState.STARTING, WorkerState.BACKING_OFF):
            return
        free = [slot for slot in range(self.num_slots) if slot not in self.workers]
        if free:
            self._spawn(self._spare.keep(self._launch(free[0])))

    async def _next_deadline(self) -> None:
        """Until one is over, or something has changed."""
        deadlines = [w.life.deadline for w in self.workers.values() if w.life.deadline is not None]
        try:
            timeout_s = max(0.0, min(deadlines) - self._clock.now()) if deadlines else None
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _tick(self) -> None:
        for worker in list(self.workers.values()):
            self._apply(worker, Event.TICK)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            if not self.count(WorkerState.READY):
                continue
            try:
                listed = await self._endpoints.listed()
            except EndpointsUnavailable:
                listed = {}  # then nothing is known of anybody
            for worker in list(self.workers.values()):
                self._note_health(worker, listed.get(worker.endpoint_id or ""))

    def _note_health(self, worker: Worker, status: str | None) -> None:
        now = self._clock.now()
        if status != "unhealthy" or worker.life.state is not WorkerState.READY:
            worker.unhealthy_since = None
            return
        if worker.unhealthy_since is None:
            worker.unhealthy_since = now
        unhealthy_s = now - worker.unhealthy_since
        if unhealthy_s >= self._timing.hung_after_s:
            worker.killed_because = f"it was unhealthy for {unhealthy_s:.0f} s"
            self._apply(worker, Event.HUNG)

    async def _end(self) -> None:
        """Ask all to end, and see to it: each within its grace."""
        for worker in list(self.workers.values()):
            self._apply(worker, Event.STOP)
        while self.workers:
            await self._next_deadline()
            self._tick()

    async def _kill_all(self) -> None:
        """Whatever is left; nobody waits for it any longer than a kill takes."""
        for worker in self.workers.values():
            if worker.process is not None:
                worker.process.kill()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=KILLED_S if self.workers else 0.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What happens.

    def _apply(self, worker: Worker, event: Event) -> None:
        before = worker.life
        worker.life, actions = advance(before, event, self._clock.now(), self._timing)
        if worker.life.state is not before.state:
            if worker.life.state is WorkerState.STOPPED:
                self.workers.pop(worker.slot, None)
            self._on_change(worker, before.state)
        if worker.life is not before:
            self._changed.set()
        self._act(worker, actions)

    def _act(self, worker: Worker, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Action.LAUNCH:
                    self._spawn(self._live(worker))
                case Action.REGISTER:
                    self._spawn(self._register(worker))
                case Action.UNREGISTER:
                    self._spawn(self._unregister(worker))
                case Action.TERMINATE if worker.process is not None:
                    worker.process.terminate()
                case Action.KILL if worker.process is not None:
                    worker.process.kill()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("worker.task_failed", exc_info=error)

    async def _live(self, worker: Worker) -> None:
        """One process, from its start to its end."""
        if worker.why:
            worker.num_restarts += 1
        worker.launched_at, worker.start_up_s = self._clock.now(), None
        worker.unhealthy_since, worker.killed_because = None, ""
        try:
            how = await self._process(worker)
            worker.why = f"{worker.killed_because}; {how}" if worker.killed_because else how
        except OSError as error:
            worker.why = f"it could not be started: {error}"
        finally:
            worker.process = worker.url = None
        self._apply(worker, Event.EXITED)

    async def _process(self, worker: Worker) -> str:
        """How it ended. Raises OSError when it did not start."""
        launch = self._launch(worker.slot)
        spare = None if self._spare is None else self._spare.take(launch)
        process = worker.process = spare or await WorkerProcess.spawn(launch)
        try:
            await process.order(launch.order, lambda line: self._on_line(worker, line))
            if worker.life.state is not WorkerState.STARTING:
                process.terminate()  # given up before there was anything to end
            port = await process.wait_loaded()
            if port is None:
                async with asyncio.timeout(LAST_WORDS_S):
                    return await process.wait_ended()
            worker.url = f"http://127.0.0.1:{port}"
            worker.start_up_s = self._clock.now() - worker.launched_at
            self._start_ups.append(worker.start_up_s)
            self._apply(worker, Event.LOADED)
            return await process.wait_ended()
        except TimeoutError:
            process.kill()
            return f"it does not serve ({await process.wait_ended()})"
        except BaseException:
            process.kill()
            raise

    async def _register(self, worker: Worker) -> None:
        async with worker.asking:
            url = worker.url
            while url is not None and worker.url == url and worker.life.state is WorkerState.READY:
                try:
                    worker.endpoint_id = await self._endpoints.add(url, worker.name)
                except EndpointsUnavailable as error:
                    _log.warning("worker.not_registered", worker=worker.name, error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                return

    async def _unregister(self, worker: Worker) -> None:
        """Take it out of the router's list; when it drains, tell once it has nothing to do."""
        async with worker.asking:
            endpoint_id = worker.endpoint_id
            if endpoint_id is None:
                self._apply(worker, Event.DRAINED)  # nobody ever knew of it
                return
            until = self._clock.now() + self._timing.drain_timeout_s
            while not await self._removed(endpoint_id):
                if self._clock.now() >= until:
                    return  # its deadline has passed, too
                await asyncio.sleep(RETRY_S)
            worker.endpoint_id = None
        while worker.life.state is WorkerState.DRAINING:
            if await self._is_gone(endpoint_id):
                self._apply(worker, Event.DRAINED)
                return
            await asyncio.sleep(LOOK_S)

    async def _removed(self, endpoint_id: str) -> bool:
        try:
            await self._endpoints.remove(endpoint_id)
        except EndpointsUnavailable as error:
            _log.warning("worker.not_unregistered", endpoint=endpoint_id, error=str(error))
            return False
        return True

    async def _is_gone(self, endpoint_id: str) -> bool:
        try:
            return endpoint_id not in await self._endpoints.listed()
        except EndpointsUnavailable:
            return False
