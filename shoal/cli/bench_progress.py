"""The live view of a load test on stderr, and how Ctrl-C ends one."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from shoal.benchmarks.client.fleet import Progress
    from shoal.benchmarks.settings import LoadTest

T = TypeVar("T")
RECENT_REQUESTS = 200
RATE_WINDOW_S = 1.0


def measured(work: Coroutine[object, object, T]) -> T:
    """Run a load test. The first Ctrl-C or SIGTERM ends it in order: it returns what it has.

    A second Ctrl-C, or one before anything was measured, ends the program.
    """

    async def run() -> T:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def end(number: signal.Signals) -> None:
            task.cancel()
            loop.remove_signal_handler(number)  # the second one does what signals do

        # SIGINT too, and not as the runner does it: a shell script lets what it starts with `&`
        # ignore it, and a script that sends it wants the result.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.secho("Interrupted before there was a result.", err=True, fg="yellow")
        raise typer.Exit(130) from None


class RunView:
    """One line a run: how far it is, how many tokens flow, how long the first one takes."""

    def __init__(self, test: LoadTest) -> None:
        self._load = test.load
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=4,
            disable=not sys.stderr.isatty(),
        )
        self._label: str | None = None
        self._task = self._bar.add_task("preparing", total=None, figures="")
        self._window: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_repeat(self, repeat: int, progress: Progress) -> None:
        self._show(f"run {repeat + 1}", progress)

    def on_step(self, rate: float, progress: Progress) -> None:
        self._show(f"{rate:.3g} requests/s", progress)

    def on_pair(self, pair: int, side: str, progress: Progress) -> None:
        self._show(f"pair {pair + 1} {side.upper()}", progress)

    def _show(self, label: str, progress: Progress) -> None:
        load = self._load
        if label != self._label:
            self._label = label
            self._window.clear()
            self._bar.reset(self._task, total=load.duration_s or load.num_sessions)
        done = progress.elapsed_s if load.duration_s else len(progress.records)
        self._bar.update(
            self._task, description=label, completed=done, figures=self._figures(progress)
        )

    def _figures(self, progress: Progress) -> str:
        failed = sum(record.error is not None for record in progress.records)
        recent = [t for r in progress.records[-RECENT_REQUESTS:] if (t := r.ttft_s) is not None]
        parts = [
            f"{len(progress.records) - failed} done",
            f"{progress.in_flight} in flight",
            f"{self._tokens_per_s(progress.num_tokens):,.0f} tokens/s",
        ]
        if recent:
            parts.append(f"TTFT {median(recent) * 1e3:,.0f} ms")
        if failed:
            parts.append(f"[red]{failed} failed[/red]")
        return "  ".join(parts)

    def _tokens_per_s(self, num_tokens: int) -> float:
        now = time.monotonic()
        self._window.append((now, num_tokens))
        while len(self._window) > 2 and now - self._window[0][0] > RATE_WINDOW_S:
            self._window.pop(0)
        then, before = self._window[0]
        elapsed = now - then
        return (num_tokens - before) / elapsed if elapsed > 0 else 0.0
