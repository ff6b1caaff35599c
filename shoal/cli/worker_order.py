"""A worker's process: how it is started, and what it is told and tells, as JSON."""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from shoal.engine.config import EngineConfig
from shoal.engine.server.settings import ServerSettings

WORKER_COMMAND = (sys.executable, "-m", "shoal.cli.worker_process")


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
