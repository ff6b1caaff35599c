"""CPUs and memory of machines and containers that are folders here."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.engine.runner.machine import (
    CpuShare,
    available_memory,
    cgroup_cpus,
    cgroup_memory_left,
    cpu_share,
    meminfo_available,
)


def make_system(folder: Path, *, nodes: list[str], siblings: dict[int, str]) -> Path:
    """A /sys/devices/system: the CPUs of each NUMA node, and the threads of each CPU's core."""
    for i, cpus in enumerate(nodes):
        (folder / "node" / f"node{i}").mkdir(parents=True)
        (folder / "node" / f"node{i}" / "cpulist").write_text(cpus + "\n")
    for cpu, threads in siblings.items():
        (folder / "cpu" / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (folder / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(threads)
    return folder


def share(tmp_path: Path, num_threads: int | None = None, *, allowed: range) -> CpuShare:
    """On two nodes of four cores with two threads each: CPU n and n + 8 are one core."""
    system = tmp_path / "system"
    if not system.exists():
        siblings = {cpu: f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)}
        make_system(system, nodes=["0-3,8-11", "4-7,12-15"], siblings=siblings)
    return cpu_share(
        num_threads, allowed=allowed, system=system, cgroup=tmp_path / "cgroup", proc=tmp_path
    )


def test_threads_are_the_cores_of_one_node(tmp_path: Path) -> None:
    assert share(tmp_path, allowed=range(16)) == CpuShare(frozenset({0, 1, 2, 3, 8, 9, 10, 11}), 4)


def test_the_node_is_the_one_with_most_of_our_cores(tmp_path: Path) -> None:
    assert share(tmp_path, allowed=range(2, 8)) == CpuShare(frozenset({4, 5, 6, 7}), 4)


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    assert share(tmp_path, allowed=range(3, 12, 8)) == CpuShare(frozenset({3, 11}), 1)


def test_more_threads_than_a_node_has_get_all_nodes(tmp_path: Path) -> None:
    assert share(tmp_path, 12, allowed=range(16)) == CpuShare(frozenset(range(16)), 12)
    assert share(tmp_path, 3, allowed=range(16)).cpus == frozenset({0, 1, 2, 3, 8, 9, 10, 11})


@pytest.mark.parametrize(("quota", "threads"), [("150000", 1), ("250000", 2), ("900000", 4)])
def test_a_container_starts_no_more_threads_than_it_is_granted(
    tmp_path: Path, quota: str, threads: int
) -> None:
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup" / "cpu.max").write_text(f"{quota} 100000\n")
    assert share(tmp_path, allowed=range(16)).num_threads == threads
    assert share(tmp_path, 5, allowed=range(16)).num_threads == 5  # whoever asks gets them


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = cpu_share(allowed=range(3), system=tmp_path, cgroup=tmp_path, proc=tmp_path)
    assert found == CpuShare(frozenset({0, 1, 2}), 3)


def test_this_machine() -> None:
    assert cpu_share().num_threads >= 1
    assert available_memory() > 0


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)]
)
def test_cpus_of_a_control_group(tmp_path: Path, text: str, expected: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_cpus(tmp_path, tmp_path) == expected


def test_the_strictest_of_nested_groups_counts(tmp_path: Path) -> None:
    group = tmp_path / "cgroup"
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/shoal.slice/worker.service\n")
    inner = group / "shoal.slice" / "worker.service"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("400000 100000")
    (inner.parent / "cpu.max").write_text("200000 100000")
    (inner / "memory.max").write_text("5000")
    (inner / "memory.current").write_text("1000")
    (inner.parent / "memory.max").write_text("max")
    assert cgroup_cpus(group, tmp_path) == 2.0
    assert cgroup_memory_left(group, tmp_path) == 4_000


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    group = tmp_path / "cgroup"
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("4:cpu,cpuacct:/pod\n2:memory:/pod\n")
    for name in ("cpu,cpuacct", "memory"):
        (group / name / "pod").mkdir(parents=True)
    (group / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu,cpuacct" / "pod" / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu,cpuacct" / "pod" / "cpu.cfs_period_us").write_text("100000\n")
    (group / "memory" / "pod" / "memory.limit_in_bytes").write_text("700\n")
    (group / "memory" / "pod" / "memory.usage_in_bytes").write_text("200\n")
    assert cgroup_cpus(group, tmp_path) == 3.0
    assert cgroup_memory_left(group, tmp_path) == 500


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("1000", "300", 700), ("max", "300", None), ("10", "30", 0)]
)
def test_memory_of_a_control_group(
    tmp_path: Path, limit: str, used: str, expected: int | None
) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    assert cgroup_memory_left(tmp_path, tmp_path) == expected


def test_without_a_control_group_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_cpus(tmp_path, tmp_path) is None
    assert cgroup_memory_left(tmp_path, tmp_path) is None


def test_memory_is_what_is_free_below_the_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   64 kB\n")
    assert available_memory(cgroup=tmp_path, proc=tmp_path) == 65_536
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("400")
    assert available_memory(cgroup=tmp_path, proc=tmp_path) == 600


def test_meminfo(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   64 kB\nHugePages_Total:  0\n")
    assert meminfo_available(meminfo) == 65_536
