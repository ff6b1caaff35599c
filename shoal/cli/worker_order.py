"""What a worker's process is told, and what it tells: JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from shoal.engine.config import EngineConfig
from shoal.engine.server.settings import ServerSettings


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker is to do."""

    config: EngineConfig
    settings: ServerSettings
    log_format: Literal["console", "json"]
    log_level: str


class WorkerReady(msgspec.Struct):
    """The worker serves."""

    port: int
    model: str
    has_chat_template: bool
