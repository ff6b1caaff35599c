"""The share of the machine that others took."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from shoal.benchmarks.peers.foreign_cpu import (
    CpuReading,
    foreign_share,
    read_cpu,
    tree_cpu_s,
    used_seconds,
)


def reading(at_s: float, used_s: float, own_s: float) -> CpuReading:
    return CpuReading(at_s=at_s, used_s=used_s, own_s=own_s)


def test_user_nice_system_and_steal_count_and_idle_and_interrupts_do_not() -> None:
    stat = "cpu  1000 200 30 40000 500 60 70 8 999 9\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert used_seconds(stat, ticks_per_s=100) == pytest.approx(12.38)


def test_what_others_used_is_a_share_of_all_cores() -> None:
    before, after = reading(10.0, 100.0, 40.0), reading(20.0, 115.0, 51.0)
    # In 10 s two cores have 20 s; 15 were used, 11 of them by us.
    assert foreign_share(before, after, num_cores=2) == pytest.approx(0.2)


def test_the_share_stays_between_nothing_and_everything() -> None:
    # Ticks of 10 ms: the kernel may book our time a little later in one place than in the other.
    assert foreign_share(reading(0, 0, 0), reading(1, 1.99, 2.0), num_cores=2) == 0.0
    assert foreign_share(reading(0, 0, 0), reading(1, 9, 0), num_cores=2) == 1.0
    assert foreign_share(reading(5, 0, 0), reading(5, 9, 0), num_cores=2) == 0.0


def test_the_time_of_ended_children_stays_ours() -> None:
    before = tree_cpu_s(psutil.Process())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert tree_cpu_s(psutil.Process()) - before >= 0.29


def test_the_present_can_be_read() -> None:
    now = read_cpu()
    assert now.used_s > now.own_s > 0
