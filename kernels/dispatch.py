"""Which body of an operation computes: Triton's on a GPU, torch's elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from .launch.gpu import H100, Gpu

_interpreted = False


def uses_triton(tensor: Tensor) -> bool:
    """Whether the Triton body is to compute on this tensor."""
    return tensor.is_cuda or _interpreted


@contextmanager
def triton_on_cpu() -> Iterator[None]:
    """Have Triton's interpreter compute on CPU tensors: for tests, thousands of times slower.

    Needs TRITON_INTERPRET=1 in the environment before the first kernel is imported.
    """
    global _interpreted
    before, _interpreted = _interpreted, True
    try:
        yield
    finally:
        _interpreted = before


@cache
def gpu_of(device: torch.device) -> Gpu:
    """The figures of a device; those of an H100 where Triton is interpreted."""
    if device.type != "cuda":
        return H100
    from triton.runtime import driver

    index = torch.cuda.current_device() if device.index is None else device.index
    figures = driver.active.utils.get_device_properties(index)
    return Gpu(
        capability=torch.cuda.get_device_capability(index),
        num_sms=figures["multiprocessor_count"],
        shared_memory_bytes=figures["max_shared_mem"],
    )
