"""Named ranges for Nsight Systems (NVTX): off, they cost a call that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

Ranges: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""`with ranges("forward"):` puts a range of that name on the time line."""

_NOTHING = nullcontext()


def no_ranges(name: str) -> AbstractContextManager[object]:
    return _NOTHING


def nvtx_ranges(enabled: bool) -> Ranges:
    """Ranges that a profiler shows, or those that do nothing."""
    if not enabled:
        return no_ranges
    import torch

    def show(name: str) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = torch.cuda.nvtx.range(name)
        return context

    return show
