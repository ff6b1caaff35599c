"""Names for the parts of a step, for whoever wants to see them: a profiler, a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

Ranges: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""`with ranges("forward"):` around a part: schedule, prepare, forward, sample, wait or book."""

_NOTHING = nullcontext()


def no_ranges(name: str) -> AbstractContextManager[object]:
    """Nobody looks: a call that does nothing."""
    return _NOTHING
