"""Where the router listens, and the bounds of one connection."""

from __future__ import annotations

import msgspec


class TLSConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Certificates, PEM files. They are read again on a reload."""

    certificate: str
    key: str
    client_ca: str | None = None
    """Clients must show a certificate signed by it (mutual TLS)."""


class ListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of the API."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any free port."""
    processes: int = 1
    """Data-plane processes that share the address (SO_REUSEPORT)."""
    tls: TLSConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, got {self.port}")
        if not 1 <= self.processes <= 128:
            raise ValueError(f"processes must be between 1 and 128, got {self.processes}")


class AdminConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of metrics, debug pages and the admin API: never the API's own."""

    host: str = "127.0.0.1"
    port: int = 8081
    api_keys_file: str | None = None
    """Keys (one a line) that open the admin API; none: open, and then only a loopback host is
    allowed. /metrics and /health never need one."""


class BoundsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one client connection and one request."""

    max_connections: int = 16_384
    """Of one process; more are closed at once."""
    max_header_bytes: int = 32 * 1024
    max_body_bytes: int = 16 * 1024 * 1024
    header_timeout_s: float = 10.0
    """From the first byte of a request to the end of its headers (slow loris)."""
    body_timeout_s: float = 60.0
    """From the end of the headers to the end of the body."""
    idle_timeout_s: float = 75.0
    """Of a keep-alive connection between requests."""
    write_timeout_s: float = 60.0
    """A client that takes nothing for so long while we hold bytes for it is closed."""
    write_buffer_bytes: int = 256 * 1024
    """Held for a slow client before we stop reading from the worker."""


class UpstreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections to workers."""

    connect_timeout_s: float = 1.0
    first_byte_timeout_s: float = 120.0
    """TTFT deadline: without a byte of the answer by then the request moves to another worker."""
    stream_idle_timeout_s: float = 60.0
    """Longest silence inside a stream before the worker counts as hung."""
    pool_idle_timeout_s: float = 4.0
    """A pooled connection is not used after so long idle: uvicorn closes them after 5 s."""
    max_pooled_per_endpoint: int = 1024
    ca: str | None = None
    """PEM file to check https workers with; none: the system's."""
    client_certificate: str | None = None
    client_key: str | None = None
    api_key: str | None = None
    """Sent to workers as their bearer key in place of the client's. `$NAME` reads the
    environment."""
