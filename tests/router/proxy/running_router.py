"""A data plane in the test's process: a gateway on a real socket, its clock ours to put forward."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence

from shoal.router.messages import EndpointRecord
from shoal.router.proxy.client import ClientConnection
from shoal.router.proxy.data_plane import open_server
from shoal.router.proxy.gateway import Gateway
from shoal.router.proxy.sweeper import Sweeper
from shoal.router.settings.access import TelemetryConfig
from shoal.router.settings.config import RouterConfig
from tests.router.proxy.raw_client import RawClient
from tests.router.proxy.raw_worker import RawWorker

QUIET = TelemetryConfig(access_log=None)


def record(
    url: str, *models: str, engine: str = "openai", status: str = "ready", **labels: str
) -> EndpointRecord:
    """One endpoint, as the state process tells of it; its model is m unless told."""
    return EndpointRecord(url, url, engine, list(models) or ["m"], 1.0, 0.0, labels, status)


class RunningRouter:
    """Owned by the `run_router` fixture."""

    def __init__(self, config: RouterConfig, keys: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead_s = 0.0
        self._server: asyncio.Server | None = None
        self._clients: list[RawClient] = []
        self.port = 0
        self.gateway = Gateway()
        self.gateway.now = self._now
        self.gateway.configure(config, keys)
        self.sweeper = Sweeper(self.gateway)

    def _now(self) -> float:
        return self._loop.time() + self._ahead_s

    def pass_time(self, seconds: float) -> None:
        """Put the clock of the gateway forward, and let the sweeper look around once."""
        self._ahead_s += seconds
        self.sweeper._tick()

    def take_workers(
        self, workers: Sequence[RawWorker | EndpointRecord], *, engine: str = "openai"
    ) -> None:
        self.gateway.take_fleet(
            [w if isinstance(w, EndpointRecord) else record(w.url, engine=engine) for w in workers]
        )

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = await open_server(self.gateway, listener, context)
        self.sweeper.start()

    async def client(
        self, *, context: ssl.SSLContext | None = None, receive_buffer: int | None = None
    ) -> RawClient:
        client = await RawClient.connect(self.port, context=context, receive_buffer=receive_buffer)
        self._clients.append(client)
        return client

    @property
    def connection(self) -> ClientConnection:
        """The only one there is."""
        (connection,) = self.gateway.connections
        return connection

    async def stop(self) -> None:
        self.sweeper.stop()
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.writer.transport.abort()
        for connection in list(self.gateway.connections):
            connection.cut()
        for entry in self.gateway.fleet.entries.values():
            entry.pool.close()
        self.gateway.records.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
