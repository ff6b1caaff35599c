"""A worker behind a router of ours: `python -m shoal.cli.worker_process PIPE PARENT_PID`.

Its order comes as JSON on stdin, keys included. When the model is loaded, what the router must know
goes into the pipe. It runs in a session of its own: Ctrl-C is its parent's business, which first
drains the router.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import msgspec

from shoal.engine.config import EngineConfig
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError, ShoalError
from shoal.log import configure_logging
from shoal.router.die_with_parent import die_with

from .progress import shown_progress

if TYPE_CHECKING:
    from shoal.engine.async_engine import AsyncEngine


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


def main() -> int:
    pipe, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    os.set_inheritable(pipe, False)  # its end is to be ours, not that of the engine core
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerOrder)
    from shoal.engine.server import run

    with closing(shown_progress()) as progress:
        configure_logging(order.log_format, level=order.log_level)

        def announce(engine: AsyncEngine, port: int) -> None:
            progress.close()
            configure_logging(order.log_format, level=order.log_level)
            ready = WorkerReady(port, engine.model_name, engine.tokenizer.has_chat_template)
            os.write(pipe, msgspec.json.encode(ready) + b"\n")
            os.close(pipe)

        try:
            run.serve(order.config, order.settings, progress=progress, on_ready=announce)
        except ShoalError as error:
            progress.close()
            print(f"Error: {error}", file=sys.stderr)
            return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
