"""What a process tree costs: CPU seconds to the nanosecond, memory by proportional set size.

CPU comes from the processes' CPU clocks (clock_getcpuclockid(3) builds their ids as below), which
also count threads that have ended; /proc/PID/stat has ticks of 10 ms, too coarse for a second of
light load. PSS counts a page that n processes share as 1/n in each: forked workers and a library
that all have mapped count once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_CPU_CLOCK_OF_PROCESS = 2  # CPUCLOCK_SCHED in include/linux/posix-timers.h


def tree(roots: Iterable[int]) -> list[int]:
    """Pids of processes and their descendants; those that have ended are left out."""
    found: dict[int, None] = {}
    for root in roots:
        with suppress(psutil.Error):
            process = psutil.Process(root)
            found |= {root: None, **{child.pid: None for child in process.children(recursive=True)}}
    return list(found)


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time so far. A process that ended takes its time with it."""
    total = 0.0
    for pid in tree(roots):
        with suppress(OSError):
            total += time.clock_gettime((~pid << 3) | _CPU_CLOCK_OF_PROCESS)
    return total


def pss_bytes(roots: Iterable[int]) -> int:
    """Proportional set size now."""
    total = 0
    for pid in tree(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total
