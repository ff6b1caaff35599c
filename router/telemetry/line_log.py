"""Lines that a thread of their own writes: a slow disk or pipe never stops the event loop."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from shoal.errors import ConfigError

STDERR = "-"
FLUSH_S = 0.2
"""A line is written at most so long after it was appended."""
BATCH_ENTRIES = 256
"""About 64 KiB. Formatting one batch holds the interpreter for half a millisecond; the write that
follows lets it go, so the event loop is never kept waiting for longer."""
_PIPE_BUF = select.PIPE_BUF
_STDERR_FD = 2

Entry = TypeVar("Entry")


class LineLog(Generic[Entry]):
    """A bounded queue between one thread that appends, the event loop's, and one that writes.

    What does not fit, and what cannot be written, is counted in `dropped`. Lines of several
    processes that share a file (opened to append) or a pipe (written in pieces that the kernel
    keeps whole) do not mix.
    """

    def __init__(
        self,
        target: str,
        *,
        format_batch: Callable[[list[Entry]], bytes],
        max_pending: int = 16_384,
    ) -> None:
        """`target` is a file, or "-" for stderr. Raises ConfigError when it cannot be opened.

        `format_batch` runs in the writing thread; each entry becomes a line with its newline.
        """
        self._target = target
        self._format_batch = format_batch
        self._max_pending = max_pending
        self._pending: deque[Entry] = deque()
        self._refused = 0
        self._lost = 0
        self._ends_in_a_line = True
        self._wake = threading.Event()
        self._reopening = False
        self._closing = False
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(f"cannot open the log {target}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name=f"log {target}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Entries that were not written, so far."""
        return self._refused + self._lost

    def append(self, entry: Entry) -> None:
        """Never blocks; 0.1 us."""
        pending = self._pending
        if len(pending) >= self._max_pending:
            self._refused += 1
            return
        pending.append(entry)
        if len(pending) == BATCH_ENTRIES:
            self._wake.set()

    def reopen(self) -> None:
        """Open the file again, for it was renamed; what was appended before may go to either."""
        self._reopening = True
        self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left and end the thread; waits for that at most `timeout_s`."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _open(self) -> int:
        if self._target == STDERR:
            return _STDERR_FD
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._target, flags, 0o640)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closing
            if self._reopening:
                self._reopening = False
                self._replace_file()
            self._write_pending()
        if self._fd != _STDERR_FD:
            os.close(self._fd)

    def _replace_file(self) -> None:
        try:
            fd = self._open()
        except OSError as error:
            structlog.get_logger(__name__).warning(
                "log.reopen_failed", file=self._target, error=error.strerror
            )
            return
        if self._fd != _STDERR_FD:
            os.close(self._fd)
        self._fd = fd
        self._ends_in_a_line = True

    def _write_pending(self) -> None:
        pending = self._pending
        while pending:
            batch = [pending.popleft() for _ in range(min(len(pending), BATCH_ENTRIES))]
            try:
                self._write(self._format_batch(batch))
            except Exception as error:  # one odd entry must not end the log
                self._lost += len(batch)
                structlog.get_logger(__name__).warning(
                    "log.write_failed", file=self._target, lines=len(batch), error=str(error)
                )

    def _write(self, lines: bytes) -> None:
        """Raises OSError when they cannot be written, at least not whole."""
        if not self._ends_in_a_line:
            lines = b"\n" + lines
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            self._write_whole(lines)
            return
        start = 0
        while start < len(lines):
            end = start + _PIPE_BUF
            if end < len(lines):
                end = lines.rfind(b"\n", start, end) + 1 or lines.find(b"\n", end) + 1
            self._write_whole(lines[start:end])
            start = end

    def _write_whole(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            try:
                written = os.write(self._fd, view)
            except BlockingIOError:  # somebody who shares our stderr made it non-blocking
                if self._closing:
                    raise
                select.select([], [self._fd], [], FLUSH_S)
                continue
            view = view[written:]
            self._ends_in_a_line = not view
