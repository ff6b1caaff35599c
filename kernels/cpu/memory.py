"""Memory for weights and KV cache: in huge pages where the system has them, aligned to cache lines.

A page of 4 KiB ends the hardware's prefetching and takes an entry of the TLB; one of 2 MiB lets
the kernels stream. Linux gives huge pages to those who ask (`madvise`), if it has any free; where
it does not, this is ordinary memory. Pages are handed out when they are first written.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

CACHE_LINE = 64
HUGE_PAGE = 2 << 20
ARENA = 16 * HUGE_PAGE
"""Small matrices share a piece of this size: each alone would be less than a huge page."""


def zeroed(num_bytes: int) -> Bytes:
    """Zeros that begin at a huge page; the memory is freed with the array."""
    pages = mmap.mmap(-1, max(num_bytes, 1) + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(pages, np.uint8)
    begin = -raw.ctypes.data % HUGE_PAGE
    return raw[begin : begin + num_bytes]


class Arena:
    """Hands out pieces of huge pages, each beginning at a cache line; nothing is given back."""

    def __init__(self) -> None:
        self._left = np.empty(0, np.uint8)

    def take(self, num_bytes: int) -> Bytes:
        """Zeros that nobody else has."""
        if num_bytes > ARENA // 4:
            return zeroed(num_bytes)
        size = -(-num_bytes // CACHE_LINE) * CACHE_LINE
        if size > len(self._left):
            self._left = zeroed(ARENA)
        piece, self._left = self._left[:num_bytes], self._left[size:]
        return piece
