"""`shoal serve --router`: one worker, and a router in front of it, as one command.

This process is the router's; the worker is a child on a loopback port that only the router has the
key of. The end comes in order: the router drains, then the worker is told to end.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import typer

from shoal.engine.server.settings import ServerSettings
from shoal.router.control import run
from shoal.router.control.load import Source, load

from .announcement import announcement, base_url
from .worker_order import WORKER_COMMAND, WorkerOrder, WorkerReady

_POLL_S = 0.2
_GRACE_S = 10.0
"""Beyond its drain time, before the worker is killed; when it ends it is idle."""


def serve_behind_router(
    order: WorkerOrder,
    *,
    admin_port: int,
    router_config: Path | None = None,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> None:
    """Until SIGTERM or Ctrl-C; for the main thread.

    Raises ConfigError (an address or a setting is wrong) and SystemExit with the worker's status
    when it ends by itself; it has said why.
    """
    settings = order.settings
    worker_key = secrets.token_urlsafe(32)
    source = Source(
        file=router_config,
        overrides=_overrides(settings, admin_port=admin_port),
        api_keys=settings.api_keys,
    )
    prepared = run.prepare(source)  # before minutes of loading: the addresses can be had
    worker_settings = replace(settings, host="127.0.0.1", port=0, api_keys=(worker_key,))
    worker, ready = _start_worker(
        msgspec.structs.replace(order, settings=worker_settings), worker_command
    )
    try:
        if ready is None:
            raise SystemExit(worker.wait() or 1)
        prepared.source = replace(
            source, overrides=_with_worker(source.overrides, ready.port, worker_key)
        )
        prepared.loaded = load(prepared.source)

        def announce(serving: run.Serving) -> None:
            url = base_url(serving.host, serving.port)
            text = announcement(
                url,
                model=ready.model,
                has_chat_template=ready.has_chat_template,
                needs_key=serving.needs_key,
            )
            admin = base_url(serving.admin_host, serving.admin_port)
            typer.echo(
                f"{text}\nConsole on {admin}\n"
                f"Admin API of the router on {admin}: /metrics, /admin/endpoints"
            )

        async def worker_ends() -> str:
            while worker.poll() is None:  # noqa: ASYNC110 - a process sets no Event
                await asyncio.sleep(_POLL_S)
            return f"the worker has ended with status {worker.returncode}; its log says why"

        run.serve(
            prepared,
            command=run.proxy_command(order.log_format, order.log_level),
            on_ready=announce,
            alongside=worker_ends,
        )
    except KeyboardInterrupt:  # while the model was loading
        raise SystemExit(130) from None
    finally:
        prepared.close()
        _end(worker, settings.drain_timeout_s + _GRACE_S)


def _start_worker(
    order: WorkerOrder, command: Sequence[str]
) -> tuple[subprocess.Popen[bytes], WorkerReady | None]:
    """None: it ended before it was ready."""
    ours, theirs = os.pipe()
    try:
        worker = subprocess.Popen(
            [*command, str(theirs), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    with open(ours, "rb") as pipe:
        try:
            assert worker.stdin is not None
            with worker.stdin:
                worker.stdin.write(msgspec.json.encode(order))
            told = pipe.readline()
        except BrokenPipeError:
            told = b""
        except BaseException:
            _end(worker, 0.0)
            raise
    return worker, msgspec.json.decode(told, type=WorkerReady) if told else None


def _end(worker: subprocess.Popen[bytes], timeout_s: float) -> None:
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(timeout_s)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _overrides(settings: ServerSettings, *, admin_port: int) -> dict[str, Any]:
    return {
        "listen": {"host": settings.host, "port": settings.port, "allow_open": True},
        "admin": {"port": admin_port},
        "bounds": {"max_body_bytes": settings.max_body_bytes},
        "drain_timeout_s": settings.drain_timeout_s,
    }


def _with_worker(overrides: Any, port: int, key: str) -> dict[str, Any]:
    return {
        **overrides,
        "discovery": {"static": [{"url": f"http://127.0.0.1:{port}", "engine": "shoal"}]},
        "upstream": {"api_key": key},
    }
