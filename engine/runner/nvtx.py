"""The parts of a step on the time line of Nsight Systems (NVTX)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def nvtx_ranges(name: str) -> AbstractContextManager[object]:
    """`step_ranges.Ranges` that a profiler shows."""
    context: AbstractContextManager[object] = torch.cuda.nvtx.range(name)
    return context
