"""Long texts are tokenized and rendered off the event loop, so that streams go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

INLINE_BYTES = 4096
"""Below it the work (about 1 ms) is cheaper than the hop to a thread and back."""


class TextThreads:
    """A few threads for work whose time grows with a text. Tokenizers release the GIL."""

    def __init__(self, *, num_threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="text")

    async def run(self, work: Callable[[], T], *, num_bytes: int) -> T:
        """`work()`, here or on a thread by the size of the request body it is about."""
        if num_bytes <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
