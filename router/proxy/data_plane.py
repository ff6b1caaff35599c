"""One data-plane process: from its listening sockets to its drained end."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import Sequence

from shoal.clock import MonotonicClock

from ..access.tls import server_context
from ..limits.redis_limits import RedisLimits
from ..settings.listen import TLSConfig
from .client import ClientConnection
from .gateway import Gateway
from .link import Link
from .sweeper import Sweeper

_CONFIGURE_TIMEOUT_S = 15.0
_DRAIN_PAUSE_S = 0.05
_BACKLOG = 4096


async def serve(link: socket.socket, listeners: Sequence[socket.socket], *, process: int) -> None:
    """Serve until drained, or until the state process is gone.

    Raises TimeoutError when the configuration does not come, ConfigError when it is wrong.
    """
    plane = DataPlane(process)
    try:
        await plane.start(link, listeners)
        await plane.wait()
    finally:
        await plane.stop()


async def open_server(
    gateway: Gateway, listener: socket.socket, context: ssl.SSLContext | None
) -> asyncio.Server:
    """Accept clients on a socket; a handshake may take as long as the head of a request."""
    return await asyncio.get_running_loop().create_server(
        lambda: ClientConnection(gateway),
        sock=listener,
        ssl=context,
        ssl_handshake_timeout=None if context is None else gateway.bounds.header_timeout_s,
        backlog=_BACKLOG,
    )


class DataPlane:
    """Owns the gateway, the link, the servers and the sweeper."""

    def __init__(self, process: int) -> None:
        self.gateway = Gateway(process=process)
        self._link = Link(self.gateway, on_drain=self.drain)
        self._sweeper = Sweeper(self.gateway)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._redis: RedisLimits | None = None
        self._drain_until: float | None = None
        """While draining: when what is unfinished is cut."""
        self._ended = asyncio.Event()

    async def start(self, link: socket.socket, listeners: Sequence[socket.socket]) -> None:
        await self._link.open(link)
        async with asyncio.timeout(_CONFIGURE_TIMEOUT_S):
            await self._link.has_fleet.wait()
        if self._link.failure is not None:
            raise self._link.failure
        tls: TLSConfig | None = self.gateway.config.listen.tls
        context = self.gateway.server_tls = None if tls is None else server_context(tls)
        for listener in listeners:
            self._servers.append(await open_server(self.gateway, listener, context))
        self._spawn(self.gateway.keep_keys_fresh())
        await self._share_limits()
        self._sweeper.start()
        # What is there now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        self._link.ready()

    async def _share_limits(self) -> None:
        url = self.gateway.config.limits.redis_url
        if url is not None:
            self._redis = RedisLimits(self.gateway.limiter, url, MonotonicClock())
            await self._redis.start()

    async def wait(self) -> None:
        """Until it is drained, or alone."""
        waits = [asyncio.create_task(e.wait()) for e in (self._ended, self._link.closed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def drain(self, timeout_s: float | None = None) -> None:
        """Stop accepting, let requests finish, end.

        Again with a time: end by then if that is sooner. Again without one: end at once.
        """
        if self._drain_until is None:
            patience = self.gateway.config.drain_timeout_s if timeout_s is None else timeout_s
            self._drain_until = self.gateway.now() + patience
            self._spawn(self._drain())
        elif timeout_s is None:
            self._ended.set()
        else:
            self._drain_until = min(self._drain_until, self.gateway.now() + timeout_s)

    async def _drain(self) -> None:
        gateway = self.gateway
        # Connections that wait in the socket's queue are ours: the loop takes them first.
        await asyncio.sleep(_DRAIN_PAUSE_S)
        gateway.is_draining = True
        for server in self._servers:
            server.close()
        while gateway.connections and gateway.now() < (self._drain_until or 0.0):
            # An idle connection ends after its next answer, or now if its client is patient.
            await asyncio.sleep(_DRAIN_PAUSE_S)
            gateway.close_idle()
        self._ended.set()

    async def stop(self) -> None:
        self._sweeper.stop()
        for server in self._servers:
            server.close()
        for connection in list(self.gateway.connections):
            connection.cut()
        for task in self._tasks:
            task.cancel()
        if self._redis is not None:
            await self._redis.close()
        self.gateway.records.close()
        await self._link.close()

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
