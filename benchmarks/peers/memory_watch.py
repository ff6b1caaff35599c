"""Resident memory of a server and everything it started."""

from __future__ import annotations

import threading

import psutil

SAMPLE_EVERY_S = 0.5


class MemoryWatch:
    """Samples in a thread while it is open; `peak_bytes` is the largest sum seen.

    Pages that processes of the tree share are counted once a process.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def sample(self) -> int:
        """Bytes now; 0 when the process has ended."""
        total = 0
        try:
            processes = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return 0
        for process in processes:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # ended meanwhile
        self.peak_bytes = max(self.peak_bytes, total)
        return total

    def _watch(self) -> None:
        while not self._closed.wait(SAMPLE_EVERY_S):
            self.sample()
