"""How much of the machine other processes took during a measurement.

A machine that others use too gives wrong figures without a sign; the share is recorded with every
line, so that a disturbed one can be told.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC_STAT = Path("/proc/stat")
DISTURBED_SHARE = 0.10
"""Above it a line counts as disturbed: on two cores that is a fifth of one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """CPU seconds since the machine and the processes started."""

    at_s: float
    used_s: float
    """By all processes, and by others on the same host (steal)."""
    own_s: float
    """By this process and everything it started, what has ended included."""


def foreign_share(before: CpuReading, after: CpuReading, *, num_cores: int) -> float:
    """CPU time of others between two readings, as a share of all cores, in [0, 1]."""
    seconds = (after.at_s - before.at_s) * num_cores
    if seconds <= 0:
        return 0.0
    foreign_s = (after.used_s - before.used_s) - (after.own_s - before.own_s)
    return min(1.0, max(0.0, foreign_s / seconds))


def used_seconds(stat: str, *, ticks_per_s: int) -> float:
    """CPU seconds of the first line of /proc/stat: user, nice, system and steal.

    Interrupts are left out: those of the loopback are our own. Guests are part of user time.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = (
        int(field) for field in stat.splitlines()[0].split()[1:9]
    )
    return (user + nice + system + steal) / ticks_per_s


def read_cpu() -> CpuReading:
    """Now, with this process as the root of what is ours."""
    return CpuReading(
        at_s=time.monotonic(),
        used_s=used_seconds(PROC_STAT.read_text(), ticks_per_s=os.sysconf("SC_CLK_TCK")),
        own_s=tree_cpu_s(psutil.Process()),
    )


def tree_cpu_s(root: psutil.Process) -> float:
    """CPU seconds of a process and its descendants; those of ended ones are their parents'."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # ended meanwhile
        total += times.user + times.system + times.children_user + times.children_system
    return total
