"""Waiting for what a controller does in its own time; never for a time to pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
PATIENCE_S = 30.0
"""For what takes a second or two on a machine that has nothing else to do."""


@overload
async def eventually(
    look: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = ...
) -> T: ...
@overload
async def eventually(look: Callable[[], T | None], what: str, timeout_s: float = ...) -> T: ...
async def eventually(look: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true answer of `look`; fails with `what` and its last answer if there is none."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; last: {found!r}")
        await asyncio.sleep(0.05)
