"""The seam to whatever can say where a core's time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from shoal.errors import ShoalError


class ProfilerError(ShoalError):
    """A profile could not be started, stopped or written; the engine goes on."""


class Profiler(Protocol):
    """Takes one profile at a time. Raises ProfilerError."""

    def start(self) -> None: ...

    def stop(self) -> str:
        """Write what was seen since `start`; returns the path of the file."""
        ...


@runtime_checkable
class Profilable(Protocol):
    """What a backend is that has a profiler."""

    def make_profiler(self, folder: Path) -> Profiler: ...
