"""What a reload may change, and when a watched file has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from ..settings.config import RouterConfig

_FIXED = (
    ("listen", "host"),
    ("listen", "port"),
    ("listen", "processes"),
    ("admin", "host"),
    ("admin", "port"),
)
"""Bound at the start. A router that takes over may have others."""


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a reload."""

    changed: bool
    """Whether any setting, or a file that is named, differs."""
    needs_restart: list[str] = []
    """Settings that differ and stay as they were until the router is started again."""


def keep_fixed(old: RouterConfig, new: RouterConfig) -> tuple[RouterConfig, list[str]]:
    """`new`, but with the settings of `old` that cannot change; their names if they differ."""
    needs_restart = []
    for topic, name in _FIXED:
        section, before = getattr(new, topic), getattr(getattr(old, topic), name)
        if getattr(section, name) != before:
            needs_restart.append(f"{topic}.{name}")
            section = msgspec.structs.replace(section, **{name: before})
            new = msgspec.structs.replace(new, **{topic: section})
    return new, needs_restart


async def watch(
    files: Callable[[], Sequence[Path]],
    on_change: Callable[[], Awaitable[object]],
    *,
    interval_s: float = 1.0,
) -> None:
    """Call `on_change` when one of the files has, until cancelled.

    Looks at them each interval: that works on every file system, and for the symbolic links by
    which Kubernetes swaps a ConfigMap.
    """
    seen = await asyncio.to_thread(_signatures, files())
    while True:
        await asyncio.sleep(interval_s)
        found = await asyncio.to_thread(_signatures, files())
        if found != seen:
            seen = found
            await on_change()


def _signatures(files: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    return [_signature(file) for file in files]


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
