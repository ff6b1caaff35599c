"""The data-plane processes: one a slot, started again when they crash, replaced without loss.

What a data-plane program must do (`python -m shoal.router.proxy`, or a test's stand-in):

    python -m shoal.router.proxy --link FD --listen FD [--listen FD ...] --process N --parent PID
                                 [--log-format console|json] [--log-level LEVEL]

- `--link`: a stream socket to the state process; `shoal.frames` framing, `router.messages` inside,
  msgpack. `--listen`: a bound, listening, non-blocking TCP socket; usually one, and more after a
  takeover by a router with fewer processes: accept on all of them. All are inherited descriptors.
- `--process N`: its number, unique among all processes this router ever starts (a replacement has
  another one than the process it replaces, and both live for a while). Put it in each `PeerDelta`.
- `--parent PID`: call `die_with_parent.die_with(PID)` first.
- It hears, in this order: `Configure`, `FleetUpdate`, then `KVBlocks` of each indexed endpoint and
  one `PeerDelta` of each sibling, and from then on changes as they come. When it has the first
  two and has begun to accept, it says `Ready(process=N)`; within `Timing.ready_s`, or it is
  killed and started again.
- A later `Configure` replaces the earlier one (TLS files are read again; the log files opened
  again). A `PeerDelta` of a process that has ended has a zero for all that it had.
- `Drain(timeout_s)`: accept what is queued now, then close the listening sockets (they stay open
  in the state process, where the successor gets them), end idle connections, let requests finish
  and their connections end after them, then exit 0; at the latest after `timeout_s`. It goes on
  sending `PeerDelta`s meanwhile, and goes on getting `FleetUpdate`s. A second `Drain` may set an
  earlier end. Its last message is `Report(number=0, body=...)` with its metrics, so that what it
  counted is not lost.
- The link at its end (EOF): exit at once. SIGINT and SIGHUP are the state process's business:
  ignore them. SIGTERM means the same as `Drain` with the configured timeout.
- `Ask(number, what, limit)`: a `Report` of that number, at once. "metrics": `to_plain(...)` of
  `telemetry.snapshot`. "decisions": a list of objects, each with `ts` (Unix seconds), the newest
  first. "connections": an object. "ping": null; asked each second, and a process that answers
  nothing for `Timing.stalled_s`, or does not read its link, is killed and replaced.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from shoal.errors import EngineUnavailable, ShoalError
from shoal.frames import with_length

from ..messages import FromState, PeerDelta
from .child import Child, Timing

_encode = msgspec.msgpack.Encoder().encode
_log = structlog.get_logger(__name__)


class ChildFailed(ShoalError):
    """A data-plane process could not be started; its own words are on stderr."""


class _Slot:
    """One share of the listening sockets, and whose it is."""

    __slots__ = ("changed", "current", "index", "listeners", "lock", "num_crashes")

    def __init__(self, index: int, listeners: Sequence[socket.socket]) -> None:
        self.index = index
        self.listeners = listeners
        self.current: Child | None = None
        self.changed = asyncio.Event()
        self.lock = asyncio.Lock()
        """Held while a process is started for it."""
        self.num_crashes = 0
        """In a row."""


class Children:
    """Use: `start`, then `run` until cancelled; `drain` before that for a peaceful end."""

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[Sequence[socket.socket]],
        *,
        greet: Callable[[int], Iterable[FromState]],
        on_delta: Callable[[int, PeerDelta], None],
        on_metrics: Callable[[int, Any], None],
        on_end: Callable[[int], None],
        timing: Timing | None = None,
    ) -> None:
        """One slot for each of `listeners`.

        `greet` gives the first messages for the process of a number. The others hear what processes
        tell, and that one has ended.
        """
        self._command = command
        self._slots = [_Slot(index, sockets) for index, sockets in enumerate(listeners)]
        self._greet = greet
        self._on_delta = on_delta
        self._on_metrics = on_metrics
        self._on_end = on_end
        self._timing = timing or Timing()
        self._numbers = itertools.count(1)
        self._live: dict[int, Child] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._is_restarting = False
        self._is_draining = False

    async def start(self) -> None:
        """Start all. Raises ChildFailed when one does not get ready: then none is left."""
        started = await asyncio.gather(
            *(self._launch_ready(slot) for slot in self._slots), return_exceptions=True
        )
        failures = [result for result in started if isinstance(result, BaseException)]
        if failures:
            await self.kill_all()
            raise failures[0]
        for slot, child in zip(self._slots, started, strict=True):
            assert isinstance(child, Child)
            slot.current = child

    async def run(self) -> None:
        """Start crashed ones again, until cancelled; then all are killed."""
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._keep(slot))
            # All slots are empty: what still drains was replaced before, and has its own time.
            while self._lives:
                await asyncio.wait(self._lives)
        finally:
            await self.kill_all()

    def send(self, number: int, message: FromState) -> None:
        """To one; nothing happens when it has ended."""
        if (child := self._live.get(number)) is not None:
            child.send(message)

    def broadcast(self, message: FromState, *, but: int | None = None) -> None:
        """To all, those that drain included."""
        frame = with_length(_encode(message))
        for number, child in [*self._live.items()]:
            if number != but:
                child.send_frame(frame)

    async def ask_all(
        self, what: str, *, limit: int = 100, timeout_s: float = 2.0
    ) -> dict[int, Any]:
        """Reports by process; one that does not answer in time is left out."""
        children = [child for child in self._live.values() if child.is_ready]
        reports = await asyncio.gather(
            *(child.ask(what, limit, timeout_s) for child in children), return_exceptions=True
        )
        return {
            child.number: report
            for child, report in zip(children, reports, strict=True)
            if not isinstance(report, BaseException)
        }

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    @property
    def num_ready(self) -> int:
        """Slots whose process accepts."""
        return sum(slot.current is not None and slot.current.is_ready for slot in self._slots)

    def pids(self) -> dict[int, int]:
        """Process ids by process number, those that drain included."""
        return {number: child.pid for number, child in self._live.items()}

    async def restart(self, handover_timeout_s: float) -> int:
        """Replace all, one after the other; returns how many.

        Each new one accepts before its predecessor stops, and that one has `handover_timeout_s` to
        finish what it has (not waited for). Raises EngineUnavailable when a new one does not get
        ready, and then its predecessor goes on.
        """
        if self._is_restarting or self._is_draining:
            raise EngineUnavailable(
                "The router is restarting or ending already.", retry_after_s=5.0
            )
        self._is_restarting = True
        try:
            for slot in self._slots:
                await self._replace(slot, handover_timeout_s)
        except ChildFailed as error:
            raise EngineUnavailable(f"{error} The one before it goes on.") from error
        finally:
            self._is_restarting = False
        return len(self._slots)

    async def _replace(self, slot: _Slot, handover_timeout_s: float) -> None:
        async with slot.lock:
            if self._is_draining:
                return
            new = await self._launch_ready(slot)
            before, slot.current = slot.current, new
            slot.changed.set()
            if before is not None:
                before.drain(handover_timeout_s)
            _log.info("process.replaced", slot=slot.index, process=new.number, pid=new.pid)

    async def drain(self, timeout_s: float) -> None:
        """Have all finish and end; returns when they have, or were killed for taking longer."""
        self._is_draining = True
        for child in [*self._live.values()]:
            child.drain(timeout_s)
        if self._lives:
            await asyncio.wait(self._lives)

    async def kill_all(self) -> None:
        """At once."""
        self._is_draining = True
        for child in self._live.values():
            child.kill("the router ends")
        if self._lives:
            await asyncio.wait(self._lives)

    async def _keep(self, slot: _Slot) -> None:
        while True:
            await slot.changed.wait()
            slot.changed.clear()
            if slot.current is not None and not slot.current.ended.is_set():
                continue
            if self._is_draining:
                return
            await asyncio.sleep(self._delay_s(slot))
            async with slot.lock:
                if slot.current is None or slot.current.ended.is_set():
                    await self._start_again(slot)

    async def _start_again(self, slot: _Slot) -> None:
        """Its listening socket was open all the time: who connected meanwhile has waited."""
        if self._is_draining:
            return
        slot.current = None
        try:
            slot.current = await self._launch_ready(slot)
        except (ChildFailed, OSError) as error:
            _log.error("process.start_failed", slot=slot.index, error=str(error))
            slot.changed.set()  # once more, later
            return
        if slot.current.ended.is_set():
            slot.changed.set()

    def _delay_s(self, slot: _Slot) -> float:
        """Nothing for the first crash in a row, then 0.1, 0.2, ... 5 s."""
        lived_s = 0.0
        if slot.current is not None:
            lived_s = asyncio.get_running_loop().time() - slot.current.started_at
        if lived_s >= self._timing.stable_s:
            slot.num_crashes = 0
        slot.num_crashes += 1
        if slot.num_crashes == 1:
            return 0.0
        return min(
            self._timing.first_delay_s * 2.0 ** min(slot.num_crashes - 2, 30),
            self._timing.max_delay_s,
        )

    async def _launch_ready(self, slot: _Slot) -> Child:
        """Raises ChildFailed."""
        child = await Child.launch(
            self._command,
            next(self._numbers),
            slot.listeners,
            self._timing,
            on_delta=lambda child, delta: self._on_delta(child.number, delta),
            on_metrics=lambda child, body: self._on_metrics(child.number, body),
        )
        # No wait between these: what is broadcast from now on reaches it after its greeting.
        for message in self._greet(child.number):
            child.send(message)
        self._live[child.number] = child
        life = asyncio.create_task(self._live_through(slot, child))
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        if self._is_draining:
            child.kill("the router ends")
        try:
            await child.ready_or_ended.wait()
        except asyncio.CancelledError:
            child.kill("its start was given up")
            raise
        if not child.is_ready:
            raise ChildFailed(
                f"A data-plane process (pid {child.pid}) did not start: {child.how_it_ended()}."
            )
        _log.info("process.ready", slot=slot.index, process=child.number, pid=child.pid)
        return child

    async def _live_through(self, slot: _Slot, child: Child) -> None:
        try:
            await child.run()
        finally:
            del self._live[child.number]
            self._on_end(child.number)
            slot.changed.set()
            peaceful = child.is_draining or self._is_draining
            (_log.info if peaceful else _log.error)(
                "process.ended",
                slot=slot.index,
                process=child.number,
                pid=child.pid,
                how=child.how_it_ended(),
            )
