"""Keeps an engine core running: starts it, restarts it after a crash, says when it gives up.

    STARTING -> READY -> (the process ends) -> RESTARTING -> READY -> ...
                                            -> DEAD   by policy, or after too many crashes

A core that cannot start the first time is not tried again: `start` raises.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import Protocol

import structlog

from shoal import errors
from shoal.errors import ShoalError

from . import protocol
from .config import SupervisionConfig
from .core_client import CoreClient
from .restart_backoff import RestartBackoff
from .sources.progress import NoProgress, Progress

log = structlog.get_logger(__name__)

TERMINATE_GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""


class CoreState(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DEAD = "dead"
    STOPPED = "stopped"


class CoreListener(Protocol):
    """Hears what happens to the core. Called on the event loop, so it must not block."""

    def on_step(self, message: protocol.StepOutputs) -> None: ...

    def on_rejected(self, message: protocol.Rejected) -> None: ...

    def on_profiled(self, message: protocol.Profiled) -> None: ...

    def on_lost(self) -> None:
        """The core is gone, and with it every request it had; `CoreSupervisor.why` says how."""


class CoreSupervisor:
    """Use: `start`, then `send` while `state` is READY; `stop` at last."""

    def __init__(
        self,
        listener: CoreListener,
        *,
        command: Sequence[str],
        config: SupervisionConfig,
        spare: CoreClient | None = None,
    ) -> None:
        """`spare`: a process of `command` that was launched before; the first to be used."""
        self._listener = listener
        self._spare = spare
        self._command = command
        self._config = config
        self._backoff = RestartBackoff(config.max_restarts)
        self.state = CoreState.STARTING
        self.why = "the engine core is starting"
        """What keeps the core from serving, for people; empty while it is READY."""
        self.ready: protocol.Ready | None = None
        """Facts of the last core that became ready."""
        self.num_restarts = 0
        self._client: CoreClient | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._first_ready: asyncio.Future[protocol.Ready] | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self._launched_at = self._ready_at = 0.0
        self._start_s = self._delay_s = 0.0

    @property
    def retry_after_s(self) -> float:
        """When to try again: a restart takes about as long as the start before it."""
        return max(1.0, self._delay_s + self._start_s)

    async def start(
        self, load: protocol.Load, *, progress: Progress | None = None
    ) -> protocol.Ready:
        """Start the core and wait until it is ready.

        Raises the `ShoalError` that the core met while loading.
        """
        self._first_ready = asyncio.get_running_loop().create_future()
        self._supervising = asyncio.create_task(self._supervise(load, progress or NoProgress()))
        return await self._first_ready

    def send(self, frame: bytes) -> None:
        """Pass an encoded message to the core, if there is one."""
        if self._client is not None:
            self._client.send(frame)

    def kill(self, because: str) -> None:
        """End a core that hangs; it counts as a crash."""
        if self._client is not None:
            self._client.kill(because)

    async def wait_dead(self) -> str:
        """Returns when the core has died for good, with the reason; for the server to exit."""
        await self._ended.wait()
        return self.why

    async def stop(self) -> None:
        """End the core and the supervision."""
        self.state, self.why = CoreState.STOPPED, "the engine is shut down"
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        if self._spare is not None:
            await self._spare.close(grace_s=TERMINATE_GRACE_S)
        if self._first_ready is not None:
            self._first_ready.cancel()

    # -- supervision ---------------------------------------------------------------------

    async def _supervise(self, load: protocol.Load, progress: Progress) -> None:
        try:
            while (delay_s := await self._one_life(load, progress)) is not None:
                log.warning("core.restart", reason=self.why, delay_s=delay_s)
                self.num_restarts += 1
                await asyncio.sleep(delay_s)
            log.error("core.gave_up", reason=self.why)
        except Exception as error:  # a fault of ours; without this, waiters would wait for ever
            log.exception("core.supervision_failed")
            self._give_up(None, f"its supervision failed: {error!r}")
        self._ended.set()

    async def _one_life(self, load: protocol.Load, progress: Progress) -> float | None:
        """Start a core and stay with it to its end; the delay before the next, None for none."""
        loop = asyncio.get_running_loop()
        self._launched_at = loop.time()
        spare, self._spare = self._spare, None
        client = self._client = spare or await CoreClient.launch(self._command)
        log.info("core.started", pid=client.pid)
        quiet_s = self._config.start_timeout_s

        def on_message(message: protocol.FromCore) -> None:
            match message:
                case protocol.StepOutputs():
                    self._listener.on_step(message)
                case protocol.Rejected():
                    self._listener.on_rejected(message)
                case protocol.Profiled():
                    self._listener.on_profiled(message)
                case protocol.Hello():
                    client.send(protocol.encode(load))
                    deadline.reschedule(loop.time() + quiet_s)
                case protocol.LoadProgress():
                    progress.update(message.stage, message.done, message.total)
                    deadline.reschedule(loop.time() + quiet_s)
                case protocol.Ready():
                    deadline.reschedule(None)
                    self._become_ready(message)

        try:
            async with asyncio.timeout(quiet_s) as deadline:
                reason = await client.run(on_message)
        except TimeoutError:
            reason = f"it made no progress for {quiet_s:g} s while starting"
        finally:
            self._client = None
            await client.close(grace_s=TERMINATE_GRACE_S)
        return self._mourn(client.fatal, reason)

    def _become_ready(self, ready: protocol.Ready) -> None:
        assert self._first_ready is not None
        self._ready_at = asyncio.get_running_loop().time()
        self._start_s = self._ready_at - self._launched_at
        self.ready = ready
        self.state, self.why = CoreState.READY, ""
        log.info("core.ready", start_s=round(self._start_s, 2))
        if not self._first_ready.done():
            self._first_ready.set_result(ready)

    def _mourn(self, fatal: protocol.Fatal | None, reason: str) -> float | None:
        """Decide what follows a core's end: the delay before a restart, or None."""
        assert self._first_ready is not None
        served = self.state is CoreState.READY
        served_s = asyncio.get_running_loop().time() - self._ready_at if served else 0.0
        delay_s = self._backoff.next_delay_s(served_s=served_s)
        never_ready = not self._first_ready.done()
        if delay_s is None or never_ready or self._config.on_core_crash == "exit":
            self._give_up(fatal, reason)
            return None
        self._delay_s = delay_s
        self._lose(CoreState.RESTARTING, reason)
        return delay_s

    def _give_up(self, fatal: protocol.Fatal | None, reason: str) -> None:
        self._lose(CoreState.DEAD, reason)
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_exception(_start_error(fatal, reason))

    def _lose(self, state: CoreState, reason: str) -> None:
        self.state, self.why = state, f"the engine core ended: {reason}"
        self._listener.on_lost()


def _start_error(fatal: protocol.Fatal | None, reason: str) -> ShoalError:
    """The error that a core met while loading, of the class it had over there."""
    if fatal is not None:
        known = getattr(errors, fatal.error, None)
        if isinstance(known, type) and issubclass(known, ShoalError):
            return known(fatal.message)
    return ShoalError(f"The engine core could not start: {reason}")
