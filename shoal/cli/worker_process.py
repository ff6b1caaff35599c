"""A worker behind a router of ours: `python -m shoal.cli.worker_process PIPE PARENT_PID`.

Its order comes as JSON on stdin, keys included; until then it waits, with everything imported and
the process of its engine core beside it. When the model is loaded, what the router must know goes
into the pipe. It runs in a session of its own: Ctrl-C is its parent's business, which first drains
the router.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from contextlib import closing

import msgspec
import uvloop

from shoal.die_with_parent import die_with
from shoal.engine.async_engine import AsyncEngine
from shoal.engine.core_client import CORE_COMMAND, CoreClient
from shoal.engine.server import run
from shoal.errors import ConfigError, ShoalError
from shoal.log import configure_logging

from .progress import ShownProgress, SilentProgress, shown_progress
from .worker_order import WorkerOrder, WorkerReady


def main() -> int:
    pipe, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    os.set_inheritable(pipe, False)  # its end is to be ours, not that of the engine core
    return uvloop.run(_work(pipe))


async def _work(pipe: int) -> int:
    """Be all that a worker is before it has a model, then wait for the order."""
    core = await CoreClient.launch(CORE_COMMAND)
    importing = asyncio.create_task(asyncio.to_thread(_import_server))
    content = await asyncio.to_thread(sys.stdin.buffer.read)
    if not content:  # whoever could have given one has ended
        await core.close()
        return 0
    order = msgspec.json.decode(content, type=WorkerOrder)
    with closing(_progress(order.log_level)) as progress:
        configure_logging(order.log_format, level=order.log_level)

        def announce(engine: AsyncEngine, port: int) -> None:
            progress.close()
            configure_logging(order.log_format, level=order.log_level)
            ready = WorkerReady(port, engine.model_name, engine.tokenizer.has_chat_template)
            os.write(pipe, msgspec.json.encode(ready) + b"\n")
            os.close(pipe)

        engine = AsyncEngine(order.config, spare_core=core)
        try:
            await run.serve_engine(engine, order.settings, progress=progress, on_ready=announce)
        except ShoalError as error:
            progress.close()
            print(f"Error: {error}", file=sys.stderr)
            return 2 if isinstance(error, ConfigError) else 1
        finally:
            await importing
    return 0


def _progress(log_level: str) -> ShownProgress:
    return shown_progress() if log_level in ("debug", "info") else SilentProgress()


def _import_server() -> None:
    """What is imported when it is needed, and is sure to be needed here."""
    for name in ("shoal.engine.server.http_server", "tokenizers"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
