"""The lock that keeps two pulls of one model apart."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.errors import DownloadFailed

from .progress import Progress

_POLL_S = 0.1


@contextmanager
def exclusive(lock_path: Path, *, timeout_s: float, progress: Progress) -> Iterator[None]:
    """Hold a lock file against other processes; the kernel drops it if this one dies.

    Raises DownloadFailed when another process holds it for longer than `timeout_s`.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as file:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                raise DownloadFailed(
                    f"another process has been pulling this model for {timeout_s:.0f} s "
                    f"(it holds {lock_path}); wait for it or stop it, then try again"
                )
            progress.update("waiting for another process that pulls this model", 0, None)
            time.sleep(_POLL_S)
        yield


def _try_lock(file_descriptor: int) -> bool:
    try:
        fcntl.flock(file_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
