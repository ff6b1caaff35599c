"""What every measurement needs: programs, a scratch folder, how long it may take."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from .contestants import Contestant
from .programs import Programs

T = TypeVar("T")
Figures = dict[str, float]


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One measurement of one contestant."""

    programs: Programs
    folder: Path
    """Empty at its beginning, removed at its end."""
    quick: bool = False
    """Smaller and shorter: for trying out, not for quoting."""
    soak_minutes: float = 0.0
    say: Callable[[str], None] = _silent
    """Tells the person who watches what figures cannot: why requests failed."""

    def sized(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    def lasting(self, usual_s: float, quick_s: float) -> float:
        return quick_s if self.quick else usual_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is measured."""

    name: str
    title: str
    contestants: tuple[str, ...]
    """Who takes part."""
    measure: Callable[[Stage, Contestant], Figures]
    """Raises whatever went wrong."""
    repeated: tuple[str, ...] | None = None
    """Who takes part in every repeat; the others only in the first. None: all."""


def drive(load: Coroutine[Any, Any, T], *, bound_s: float) -> T:
    """Run a load to its end. Raises TimeoutError after `bound_s`.

    Without garbage collection: a pause of the client would be taken for one of the router.
    """

    async def bounded() -> T:
        async with asyncio.timeout(bound_s):
            return await load

    gc.collect()
    gc.disable()
    try:
        return uvloop.run(bounded())
    finally:
        gc.enable()
