"""What a case asks of a router, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One start of one router."""

    worker_urls: tuple[str, ...]
    folder: Path
    """For its configuration and logs; nobody else writes there."""
    port: int
    side_port: int
    """For its metrics or its admin API."""
    cache_aware: bool = False
    """Its policy for shared prefixes; else its cheapest that spreads."""
    first_byte_timeout_s: float | None = None
    """When a silent worker is given up, where the router has such a setting."""
