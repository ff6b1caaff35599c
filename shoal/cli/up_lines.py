"""What `shoal up` says: a panel when it serves, then a line for each change, with its reasons."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shoal.autoscaler.core.decision import ReasonKind
from shoal.autoscaler.core.state import ScalerState
from shoal.autoscaler.local.lifecycle import WorkerState
from shoal.autoscaler.local.supervisor import Worker
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.decision_record import DecisionRecord

from .announcement import request_example

_CHATTER = re.compile(r"\[(debug|info) *\]")
_QUIET = frozenset({ReasonKind.NO_METRICS})
"""Reasons that say nothing where the number has changed."""


def print_panel(
    *,
    url: str,
    admin_url: str,
    policy: ScalingPolicy,
    each: str,
    needs_key: bool,
) -> None:
    """Addresses, model and bounds, and a command that works."""
    [variant] = policy.spec.variants
    slo = policy.spec.slo
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    port = url.rpartition(":")[2]
    for name, value in (
        ("API", f"{url}/v1"),
        ("Console", f"{admin_url}/"),
        ("Model", policy.model),
        ("Workers", f"{variant.min_replicas} to {variant.max_replicas}, {each}"),
        ("Objective", f"first token within {slo.ttft_s:g} s, {slo.tpot_s * 1000:g} ms for each "
                      f"further one, for {slo.attainment:.0%} of requests"),
        ("Status", f"shoal status --port {port} --watch"),
    ):  # fmt: skip
        grid.add_row(name, value)
    title = Text("Serving ", style="bold").append(policy.model)
    Console().print(Panel(grid, title=title, expand=False))
    example = request_example(url, model=policy.model, needs_key=needs_key)
    typer.echo(f"\n{example}\n\nCtrl-C stops all of it.\n")


def worker_line(log_level: str) -> Callable[[Worker, str], None]:
    """What shows what a worker writes, with its name before it, on stderr.

    Engine cores log at level info whatever they are told: that is left out here.
    """
    shows_all = log_level in ("debug", "info")

    def show(worker: Worker, line: str) -> None:
        if shows_all or not _CHATTER.search(line):
            typer.echo(f"[{worker.name}] {line}", file=sys.stderr)

    return show


class Lines:
    """Changes as lines; a `Recorder`, and what a `Supervisor` tells."""

    def __init__(
        self, echo: Callable[[str], None] = typer.echo, wall_time: Callable[[], float] = time.time
    ) -> None:
        self._echo = echo
        self._wall_time = wall_time

    def before(self, state: ScalerState, now: float) -> None:
        """Nothing to say yet."""

    def record(self, record: DecisionRecord) -> None:
        """A decision that changes something."""
        for variant, desired in record.changed.items():
            because = "; ".join(
                f"{reason.kind}: {reason.detail}"
                for reason in record.decision.reasons
                if reason.variant in (variant, "") and reason.kind not in _QUIET
            )
            before = record.before.get(variant, 0)
            held = record.observation.held
            if held and not before and ReasonKind.HELD not in because:
                because = f"{held} waiting; {because}"
            what = f"{before} -> {desired}"
            if (why := record.failures.get(variant)) is not None:
                what = f"{what} failed ({why})"
            elif not record.applied:
                what = f"{what} advised"
            self._say(f"{what}  {because}")

    def changed(self, worker: Worker, before: WorkerState) -> None:
        """A worker is in another state."""
        match worker.life.state:
            case WorkerState.STARTING if worker.why:
                self._say(f"{worker.name} starts again")
            case WorkerState.READY if before is WorkerState.DRAINING:
                self._say(f"{worker.name} is taken back")
            case WorkerState.READY:
                self._say(f"{worker.name} ready after {worker.start_up_s or 0.0:.2f} s")
            case WorkerState.STOPPED if before is not WorkerState.BACKING_OFF:
                self._say(f"{worker.name} stopped")
            case WorkerState.BACKING_OFF:
                deadline = worker.life.deadline or worker.life.since
                wait_s = deadline - worker.life.since
                self._say(f"{worker.name} FAILED, next start in {wait_s:g} s: {worker.why}")
            case _:
                pass

    def _say(self, text: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(self._wall_time()))
        self._echo(f"{clock}  {text}")
