"""How pulling and loading a model is shown: a bar on a terminal, lines anywhere else."""

from __future__ import annotations

import sys
from typing import Protocol

# A stage counts bytes or tensors; no model has this many tensors, no file so few bytes.
_MIN_BYTES = 100_000


class ShownProgress(Protocol):
    """A `shoal.engine.sources.progress.Progress` that is on screen until it is closed.

    `update` may come from any thread, and does nothing after `close`: a core that is started
    again later must not draw over the log.
    """

    def update(self, stage: str, done: int, total: int | None) -> None: ...

    def close(self) -> None: ...


def shown_progress() -> ShownProgress:
    """What fits where stderr goes to: a terminal, or a file or pipe."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class BarProgress:
    """One bar for the stage that is under way, wiped away at the end.

    While it is open `sys.stderr` is replaced, so that what is written there appears above it.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._stage = "starting"
        self._task = self._bar.add_task(self._stage, total=None, amount="")
        self._is_closed = False
        self._bar.start()

    def update(self, stage: str, done: int, total: int | None) -> None:
        if self._is_closed:
            return
        if stage != self._stage:
            self._bar.remove_task(self._task)
            self._stage = stage
            self._task = self._bar.add_task(stage, total=total, amount="")
        amount = format_amount(done, total) if done or total else ""
        self._bar.update(self._task, completed=done, total=total, amount=amount)

    def close(self) -> None:
        self._is_closed = True
        self._bar.stop()


class LineProgress:
    """One line when a stage begins, and nothing more: made for logs."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._is_closed = False

    def update(self, stage: str, done: int, total: int | None) -> None:
        if self._is_closed or stage in self._seen:
            return
        self._seen.add(stage)
        text = f"{stage} ({format_amount(total, None)})" if total else stage
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._is_closed = True


class SilentProgress:
    """Nothing: for workers whose log is for what goes wrong."""

    def update(self, stage: str, done: int, total: int | None) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to end."""


def format_amount(done: int, total: int | None) -> str:
    """`12.5 of 92.9 MB`, or `14 of 272` where tensors are counted."""
    if max(done, total or 0) >= _MIN_BYTES:
        amount = f"{done / 1e6:.1f}"
        return f"{amount} MB" if total is None else f"{amount} of {total / 1e6:.1f} MB"
    return f"{done}" if total is None else f"{done} of {total}"
