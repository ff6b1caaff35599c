"""The gRPC server: the scaler and the standard health service, with TLS where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from shoal.admin.auth import is_loopback
from shoal.errors import ConfigError

from . import wire
from .service import ExternalScaler
from .sessions import Sessions

MAX_MESSAGE_BYTES = 256 * 1024
MAX_CALLS = 1024
"""At once: a stream for each ScaledObject of the kind external-push, and those that come and go."""
_LEAST_PING_S = 10
_END_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. With `client_ca` only clients with a certificate of it are served."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """HOST:PORT, and who may come in."""

    address: str = "127.0.0.1:9090"
    tls: TlsFiles | None = None
    allow_open: bool = False
    """Whether other machines may ask without a client certificate."""

    def __post_init__(self) -> None:
        host, separator, port = self.address.rpartition(":")
        if not separator or not port.isdecimal() or int(port) > 65_535:
            raise ConfigError(f"--listen: HOST:PORT is wanted, got {self.address!r}")
        has_clients = self.tls is not None and self.tls.client_ca is not None
        if not (is_loopback(host.strip("[]")) or has_clients or self.allow_open):
            raise ConfigError(
                f"--listen {self.address}: other machines could ask without a certificate. Name"
                " --tls-client-ca, or say that this is meant: --allow-open"
            )


class Server:
    """Made within a running event loop; `start` binds."""

    def __init__(self, sessions: Sessions, settings: ListenSettings) -> None:
        """Raises ConfigError when a file of TLS cannot be read."""
        self._settings = settings
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CALLS,
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # KEDA keeps a stream that may be silent for hours, and asks whether we live.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_S * 1000),
            ),
        )
        self._server.add_generic_rpc_handlers((wire.handler_of(ExternalScaler(sessions)),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._credentials = None if settings.tls is None else _credentials(settings.tls)

    async def start(self) -> int:
        """Serve; the port. Raises ConfigError when the address cannot be had."""
        address = self._settings.address
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ConfigError(f"--listen: cannot listen on {address}: {error}") from None
        await self._server.start()
        for service in ("", wire.SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return int(port)

    async def stop(self) -> None:
        """Calls under way have a second; streams end with it, and KEDA connects elsewhere."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(_END_S)


def _credentials(files: TlsFiles) -> Any:
    pair = (_read(files.key, "--tls-key"), _read(files.certificate, "--tls-cert"))
    if files.client_ca is None:
        return grpc.ssl_server_credentials((pair,))
    return grpc.ssl_server_credentials(
        (pair,),
        root_certificates=_read(files.client_ca, "--tls-client-ca"),
        require_client_auth=True,
    )


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error.strerror}") from None
