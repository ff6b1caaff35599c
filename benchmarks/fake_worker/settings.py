"""What a fake worker is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field

from .engine import FakeEngineConfig
from .faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeWorkerSettings:
    """One fake worker."""

    model: str = "fake"
    engine: FakeEngineConfig = field(default_factory=FakeEngineConfig)
    faults: tuple[Fault, ...] = ()
    startup_delay_s: float = 0.0
    """It listens at once, and is not ready for so long."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    kv_events_endpoint: str | None = None
    kv_events_replay_endpoint: str | None = None
    max_body_bytes: int = 64 << 20
