"""What the state process and the data-plane processes tell each other: msgpack over a socket pair.

The state process watches the world (discovery, health, scrapes, KV events, configuration) and tells
each data-plane process. Those serve requests, and tell what they did; the state process passes on
to the others what they must know (`PeerDelta`), adds up what people ask for (`Report`), and never
sees a request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .settings.config import RouterConfig


class EndpointRecord(msgspec.Struct, array_like=True):
    """One endpoint as discovery, health checks and scrapes know it."""

    endpoint_id: str
    url: str
    engine: str
    models: list[str]
    weight: float
    cost_per_hour: float
    labels: dict[str, str]
    status: str
    """An `EndpointStatus`."""
    num_requests_running: int = 0
    num_requests_waiting: int = 0
    kv_cache_usage: float = 0.0
    num_cache_tokens: int = 0
    scraped_age_s: float | None = None
    """Age of the numbers when the message was written; None: never scraped."""
    kv_block_size: int = 0
    """Tokens of a block, of an endpoint whose KV events are indexed; 0: not indexed."""
    instance: str = ""
    """Changes when the process behind the address is another one: what was learnt is void."""
    adapters: list[str] = []
    """Those of `models` that are LoRA adapters: they have prefix caches of their own."""


# From the state process.


class Configure(msgspec.Struct, tag=True):
    """The configuration, first and after each reload."""

    config: RouterConfig
    keys: bytes = b""
    """Content of `auth.keys_file`: one process reads it, all agree."""


class FleetUpdate(msgspec.Struct, tag=True):
    """All endpoints, whenever anything about one has changed."""

    endpoints: list[EndpointRecord]


class KVBlocks(msgspec.Struct, tag=True):
    """Changes of one endpoint's prefix cache, in router hashes (`prefix_hash.token_block_hash`)."""

    endpoint_id: str
    stored: list[int] = []
    removed: list[int] = []
    cleared: bool = False
    """Forget everything first."""


class PeerDelta(msgspec.Struct, tag=True):
    """What one data-plane process did since its last: to the state process, and on to others."""

    in_flight: dict[str, int] = {}
    """Requests each endpoint has of this process now; only endpoints where it changed."""
    prefill_tokens: dict[str, int] = {}
    """The same of `EndpointState.in_flight_prefill_tokens`."""
    routed: list[tuple[str, list[int]]] = []
    """(endpoint_id, prefix hashes) of requests sent."""
    consumed: dict[str, tuple[int, int]] = {}
    """Limit consumption by key id: requests, tokens."""
    parallel: dict[str, int] = {}
    """Requests running now by key id; only keys where it changed that have a bound on it."""
    held: dict[str, int] = {}
    """Requests held now for models without an endpoint; all such models."""
    process: int = 0


class Drain(msgspec.Struct, tag=True):
    """Stop accepting, finish, end."""

    timeout_s: float = 30.0
    """Then end whatever is unfinished."""


class Ask(msgspec.Struct, tag=True):
    """Asks a data-plane process for a `Report`."""

    number: int
    what: str
    """"metrics", "decisions", "connections", or "ping": an empty report shows that it lives."""
    limit: int = 100


# From a data-plane process.


class Ready(msgspec.Struct, tag=True):
    """It accepts connections."""

    process: int


class Report(msgspec.Struct, tag=True):
    """The answer to an `Ask`."""

    number: int
    body: Any


FromState = Configure | FleetUpdate | KVBlocks | PeerDelta | Drain | Ask
FromDataPlane = Ready | PeerDelta | Report
