"""Lines that are written by a thread of their own: a slow disk or pipe never stops the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class LineLog(Generic[Entry]):
    """`append` from one thread, the event loop's; a bounded queue, and lines beyond it are lost."""

    dropped: int

    def __init__(self, target: str, *, format_line: Callable[[Entry], bytes]) -> None:
        raise NotImplementedError

    def append(self, entry: Entry) -> None:
        raise NotImplementedError

    def reopen(self) -> None:
        """Open the file again (it was renamed). Takes effect with the next write."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left and end the thread."""
