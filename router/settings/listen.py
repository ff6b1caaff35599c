"""Where the router listens, and the bounds of one connection."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shoal.settings.ranges import (
    Bytes,
    Count,
    CountOrZero,
    HttpUrl,
    PortOrZero,
    Seconds,
    SecondsOrZero,
    Text,
)


class TLSConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Certificates, PEM files. They are read again on a reload."""

    certificate: Text
    key: Text
    client_ca: Text | None = None
    """Clients must show a certificate signed by it (mutual TLS)."""


class ListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of the API."""

    host: Text = "127.0.0.1"
    port: PortOrZero = 8080
    """0: any free port."""
    processes: Annotated[int, msgspec.Meta(ge=1, le=128)] = 1
    """Data-plane processes that share the address (SO_REUSEPORT)."""
    tls: TLSConfig | None = None
    allow_open: bool = False
    """Serve other machines without keys or JWT; without this, only a loopback host may be open."""


class AdminConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of metrics, debug pages and the admin API: never the API's own."""

    host: Text = "127.0.0.1"
    port: PortOrZero = 8081
    """0: any free port."""
    api_keys_file: Text | None = None
    """Keys (one a line) that open the admin API; none: open, and then only a loopback host is
    allowed. /metrics and /health never need one."""
    autoscaler_url: HttpUrl | None = None
    """Admin API of an autoscaler that the console is to show; `shoal up` needs none."""
    autoscaler_api_key: Text | None = None
    """Sent there as bearer key. `$NAME` reads the environment."""
    ttft_target_s: Seconds = 1.0
    """First tokens within it are in time, for the console, where no autoscaler has an objective."""


class BoundsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one client connection and one request."""

    max_connections: Count = 16_384
    """Of one process; more are closed at once."""
    max_header_bytes: Bytes = 32 * 1024
    max_body_bytes: Bytes = 16 * 1024 * 1024
    header_timeout_s: Seconds = 10.0
    """From the first byte of a request to the end of its headers (slow loris)."""
    body_timeout_s: Seconds = 60.0
    """From the end of the headers to the end of the body."""
    idle_timeout_s: Seconds = 75.0
    """Of a keep-alive connection between requests."""
    write_timeout_s: Seconds = 60.0
    """A client that takes nothing for so long while we hold bytes for it is closed."""
    write_buffer_bytes: Bytes = 256 * 1024
    """Held for a slow client before we stop reading from the worker."""


class UpstreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections to workers."""

    connect_timeout_s: Seconds = 1.0
    first_byte_timeout_s: Seconds = 120.0
    """TTFT deadline: without a byte of the answer by then the request moves to another worker."""
    answer_timeout_s: Seconds = 600.0
    """The same of a request that does not stream: its first byte comes with its last token."""
    stream_idle_timeout_s: Seconds = 60.0
    """Longest silence inside a stream before the worker counts as hung."""
    pool_idle_timeout_s: SecondsOrZero = 4.0
    """A pooled connection is not used after so long idle: uvicorn closes them after 5 s."""
    max_pooled_per_endpoint: CountOrZero = 1024
    ca: Text | None = None
    """PEM file to check https workers with; none: the system's."""
    client_certificate: Text | None = None
    client_key: Text | None = None
    api_key: Text | None = None
    """Sent to workers as their bearer key in place of the client's. `$NAME` reads the
    environment."""

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key go together: give both or neither")
