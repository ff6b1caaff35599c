"""The router from start to drained end: addresses, takeover, signals."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
import uvloop

from shoal.clock import MonotonicClock
from shoal.errors import ConfigError, ShoalError

from . import listeners
from .child import Timing
from .load import Loaded, Source, load
from .reload import watch
from .state import PROXY_COMMAND, State
from .takeover import (
    Handover,
    TakeoverServer,
    is_served,
    socket_path,
    take_over,
)

if TYPE_CHECKING:
    from shoal.admin.app import AddRoutes

_SETTLE_S = 3.0
"""Longest wait for the first health checks before we say how many workers there are."""
_log = structlog.get_logger(__name__)


class Serving(NamedTuple):
    """What there is to tell when the router serves."""

    host: str
    port: int
    admin_host: str
    admin_port: int
    uses_tls: bool
    needs_key: bool
    processes: int
    endpoints: list[dict[str, Any]]
    replaced_pid: int | None
    """Of the router that this one took over from."""


@dataclass(slots=True)
class Prepared:
    """A checked configuration and the sockets for it: what can fail has."""

    source: Source
    loaded: Loaded
    sockets: list[socket.socket]
    admin: socket.socket
    handover: Handover | None = None

    def close(self) -> None:
        """For a start that is given up."""
        if self.handover is not None:
            self.handover.close()
        listeners.close([*self.sockets, self.admin])


def proxy_command(log_format: str, log_level: str) -> tuple[str, ...]:
    """The data-plane program, logging like us."""
    return (*PROXY_COMMAND, "--log-format", log_format, "--log-level", log_level)


def prepare(source: Source, *, takeover: bool = False) -> Prepared:
    """Read the configuration, get the addresses.

    Raises ConfigError, and TakeoverFailed when there is no router that hands over.
    """
    loaded = load(source)
    api, admin = loaded.config.listen, loaded.config.admin
    if takeover:
        if not api.port:
            raise ConfigError("--takeover needs a port: that of the router to replace")
        handover = take_over(socket_path(api.host, api.port))
        try:
            sockets = listeners.extended(handover.listeners, api.processes)
            handover.listeners = sockets
            if handover.admin.getsockname()[1] != admin.port:
                handover.admin.close()
                handover.admin = listeners.bind_admin(admin.host, admin.port)
        except BaseException:
            handover.close()
            raise
        return Prepared(source, loaded, sockets, handover.admin, handover)
    if api.port and _is_router(api.host, api.port):
        raise ConfigError(
            f"a router serves {api.host}:{api.port} already; stop it, or replace it without loss: "
            "--takeover"
        )
    sockets = listeners.bind(api.host, api.port, api.processes)
    try:
        return Prepared(source, loaded, sockets, listeners.bind_admin(admin.host, admin.port))
    except BaseException:
        listeners.close(sockets)
        raise


def serve(
    prepared: Prepared,
    *,
    command: Sequence[str] = PROXY_COMMAND,
    watches: bool = False,
    on_ready: Callable[[Serving], None] | None = None,
    alongside: Callable[[], Awaitable[str]] | None = None,
    admin_extras: Sequence[AddRoutes] = (),
    timing: Timing | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; for the main thread, which gets the signals.

    `alongside` runs beside the router; it ends only when the router cannot go on, and returns why.
    It is cancelled when the router has drained, and once more when the end is to be at once.
    `admin_extras` add routes to the admin app.
    Raises ChildFailed when the data-plane processes do not start, and ShoalError with what
    `alongside` returned.
    """
    uvloop.run(
        _Run(prepared, command, timing, admin_extras).run(
            watches=watches, on_ready=on_ready, alongside=alongside
        )
    )


class _Run:
    """One life of the state process."""

    def __init__(
        self,
        prepared: Prepared,
        command: Sequence[str],
        timing: Timing | None,
        admin_extras: Sequence[AddRoutes],
    ) -> None:
        self._prepared = prepared
        self._command = command
        self._timing = timing
        self._admin_extras = admin_extras
        self._stop = asyncio.Event()
        """Drain, then end."""
        self._stop_now = asyncio.Event()
        self._stop_admin = asyncio.Event()
        self._has_successor = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._beside: asyncio.Task[Any] | None = None

    async def run(
        self,
        *,
        watches: bool,
        on_ready: Callable[[Serving], None] | None,
        alongside: Callable[[], Awaitable[str]] | None,
    ) -> None:
        prepared = self._prepared
        loaded = prepared.loaded
        slots = listeners.shared_out(prepared.sockets, loaded.config.listen.processes)
        state = State(
            prepared.source, loaded, slots, clock=MonotonicClock(),
            command=self._command, timing=self._timing,
        )  # fmt: skip
        takeover: TakeoverServer | None = None
        name = prepared.sockets[0].getsockname()
        admin_name = prepared.admin.getsockname()
        with self._signals(state):
            try:
                self._spawn(state.run())
                await self._until(state.start())
                if prepared.handover is not None and not self._stop.is_set():
                    await asyncio.to_thread(prepared.handover.finish)
                takeover = self._takeover_server(loaded.config.listen.host, name[1])
                if takeover is not None:
                    # Its end is not that of the router: it has done its work.
                    self._errand(takeover.run())
                self._spawn(self._serve_admin(state))
                if watches:
                    self._spawn(watch(lambda: state.loaded.files, lambda: self._reload(state)))
                if alongside is not None:
                    self._beside = self._spawn(self._end_with(alongside))
                await self._until(state.fleet_settled(_SETTLE_S))
                if on_ready is not None and not self._stop.is_set():
                    on_ready(
                        Serving(
                            host=loaded.config.listen.host,
                            port=name[1],
                            admin_host=loaded.config.admin.host,
                            admin_port=admin_name[1],
                            uses_tls=loaded.config.listen.tls is not None,
                            needs_key=loaded.config.auth.keys_file is not None
                            or loaded.config.auth.jwt is not None,
                            processes=loaded.config.listen.processes,
                            endpoints=state.endpoints(),
                            replaced_pid=prepared.handover.pid if prepared.handover else None,
                        )
                    )
                await self._until(self._stop.wait())
                if takeover is not None and not self._has_successor:
                    takeover.close()
                await self._drain(state)
            finally:
                self._stop_admin.set()
                if takeover is not None:
                    takeover.close()
                await self._end_tasks()
                prepared.close()

    async def _drain(self, state: State) -> None:
        config = state.loaded.config
        timeout_s = config.handover_timeout_s if self._has_successor else config.drain_timeout_s
        _log.info("router.draining", timeout_s=timeout_s, has_successor=self._has_successor)
        # The processes have what queued at the sockets, or the successor has the sockets.
        listeners.close(self._prepared.sockets)
        drained = asyncio.ensure_future(state.drain(timeout_s))
        at_once = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait({drained, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not drained.done():
            await state.children.kill_all()
        await drained

    async def _until(self, awaitable: Awaitable[object]) -> None:
        """Wait for it, but not when a task fails meanwhile (raises that) or we are to stop."""
        waiting = asyncio.ensure_future(awaitable)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            done, _ = await asyncio.wait(
                {waiting, stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in (waiting, *self._tasks):
                if task in done:
                    task.result()
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    def _takeover_server(self, host: str, port: int) -> TakeoverServer | None:
        """None where there is no place for its socket: then nobody can take over."""
        prepared = self._prepared
        try:
            return TakeoverServer(
                socket_path(host, port), prepared.sockets, prepared.admin, self._succeeded
            )
        except (OSError, ConfigError) as error:
            _log.warning("takeover.impossible", error=str(error))
            return None

    def _succeeded(self) -> None:
        self._has_successor = True
        self._stop_admin.set()
        self._stop.set()

    async def _serve_admin(self, state: State) -> None:
        # fastapi and uvicorn take half a second to import: the API serves meanwhile.
        server = await asyncio.to_thread(importlib.import_module, f"{__package__}.admin_server")
        await server.run(state, self._prepared.admin, self._stop_admin, self._admin_extras)

    async def _end_with(self, alongside: Callable[[], Awaitable[str]]) -> None:
        raise ShoalError(await alongside())

    async def _reload(self, state: State) -> None:
        with contextlib.suppress(ConfigError):  # it is in the log
            await state.reload()

    async def _restart(self, state: State) -> None:
        try:
            await state.restart()
        except ShoalError as error:
            _log.error("router.restart_failed", error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def _errand(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _end_tasks(self) -> None:
        tasks = [*self._tasks, *self._errands]
        for task in tasks:
            task.cancel()
        ended: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
        at_once: asyncio.Future[Any] = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait({ended, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if self._beside is not None:
            self._beside.cancel()
        await ended

    @contextlib.contextmanager
    def _signals(self, state: State) -> Any:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            (self._stop_now if self._stop.is_set() else self._stop).set()

        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: stop,
            signal.SIGINT: stop,
            signal.SIGHUP: lambda: self._errand(self._reload(state)),
            signal.SIGUSR2: lambda: self._errand(self._restart(state)),
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)


def _is_router(host: str, port: int) -> bool:
    try:
        return is_served(Path(socket_path(host, port)))
    except ConfigError:  # no place for such sockets; binding the address will tell
        return False
