"""What a launch may know of the GPU it runs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The figures of one device; `H100` stands in where there is none."""

    capability: tuple[int, int]
    """Compute capability: (9, 0) is Hopper."""
    num_sms: int
    """Streaming multiprocessors."""
    shared_memory_bytes: int
    """Shared memory that one program may use."""


H100 = Gpu(capability=(9, 0), num_sms=132, shared_memory_bytes=232_448)
