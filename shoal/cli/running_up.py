"""What a running `shoal up` leaves for `shoal status`: a small file, for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from shoal.errors import ConfigError
from shoal.runtime_home import runtime_home

_log = structlog.get_logger(__name__)


class RunningUp(msgspec.Struct, frozen=True, kw_only=True):
    """One `shoal up`."""

    pid: int
    port: int
    url: str
    admin_url: str
    model: str


def file_of(port: int) -> Path:
    """Of the one whose API is on that port. Raises ConfigError."""
    return runtime_home() / f"up-{port}.json"


@contextmanager
def told(running: RunningUp) -> Iterator[None]:
    """The file is there meanwhile; where there is no place for it, that is logged."""
    try:
        path = file_of(running.port)
        new = path.with_suffix(f".{running.pid}")
        new.write_bytes(msgspec.json.encode(running))
        new.replace(path)
    except (OSError, ConfigError) as error:
        _log.warning("status.no_file", error=str(error), effect="shoal status needs --url")
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def all_running() -> list[RunningUp]:
    """Those whose process lives, by port. Raises ConfigError."""
    found = []
    for path in runtime_home().glob("up-*.json"):
        with suppress(OSError, msgspec.MsgspecError):
            running = msgspec.json.decode(path.read_bytes(), type=RunningUp)
            os.kill(running.pid, 0)
            found.append(running)
    return sorted(found, key=lambda running: running.port)
