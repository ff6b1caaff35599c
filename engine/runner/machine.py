"""The part of this machine that the process may use: CPUs, threads, memory.

A container sees all CPUs of its host, but may be granted the time of few; a process on a machine
with several NUMA nodes reads remote memory at half the speed. Sources: Linux' documentation of
control groups (cgroup-v1/sched-bwc, cgroup-v2) and of /sys/devices/system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
SYSTEM = Path("/sys/devices/system")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class CpuShare:
    """Where to compute, and with how many threads."""

    cpus: frozenset[int]
    """Logical CPUs, all of one NUMA node unless more threads were asked for than it has cores."""
    num_threads: int


def cpu_share(
    num_threads: int | None = None,
    *,
    allowed: Iterable[int] | None = None,
    system: Path = SYSTEM,
    cgroup: Path = CGROUP,
    proc: Path = PROC,
) -> CpuShare:
    """The CPUs for `num_threads`, by default one a physical core of the best NUMA node.

    Never more threads than the control group grants CPU time for, unless they are asked for: those
    above it would be stopped for most of each period, and all others wait for them. `allowed`: the
    CPUs of the process's affinity.
    """
    usable = frozenset(os.sched_getaffinity(0) if allowed is None else allowed)
    nodes = [node & usable for node in _numa_nodes(system)]
    home = max(nodes, key=lambda node: _num_cores(node, system), default=usable) or usable
    if num_threads is not None:
        return CpuShare(home if num_threads <= len(home) else usable, num_threads)
    quota = cgroup_cpus(cgroup, proc)
    cores = _num_cores(home, system)
    return CpuShare(home, max(cores if quota is None else min(cores, int(quota)), 1))


def available_memory(*, cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Bytes of memory that are free for us now."""
    free = meminfo_available(proc / "meminfo")
    limit = cgroup_memory_left(cgroup, proc)
    return free if limit is None else min(free, limit)


def cgroup_cpus(cgroup: Path = CGROUP, proc: Path = PROC) -> float | None:
    """CPUs whose time our control groups grant, the strictest of them; None without a limit."""
    quotas = []
    for folder in _cgroup_folders(cgroup, proc):
        quota = _read(folder / "cpu.max").split()  # "150000 100000" or "max 100000"
        if quota and quota[0] != "max":
            quotas.append(int(quota[0]) / int(quota[1]))
        old = _read(folder / "cpu.cfs_quota_us").strip()  # version 1; -1 is no limit
        if old and int(old) > 0:
            quotas.append(int(old) / int(_read(folder / "cpu.cfs_period_us")))
    return min(quotas, default=None)


def cgroup_memory_left(cgroup: Path = CGROUP, proc: Path = PROC) -> int | None:
    """Bytes below the memory limits of our control groups; None when they set none."""
    names = (("memory.max", "memory.current"),
             ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # fmt: skip
    left = []
    for folder in _cgroup_folders(cgroup, proc):
        for limit_name, used_name in names:
            limit, used = _read(folder / limit_name).strip(), _read(folder / used_name).strip()
            if limit not in ("", "max") and used:
                left.append(max(int(limit) - int(used), 0))
    return min(left, default=None)


def meminfo_available(meminfo: Path) -> int:
    """`MemAvailable` of /proc/meminfo in bytes."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _cgroup_folders(cgroup: Path, proc: Path) -> list[Path]:
    """The folders of our control groups and of all above them.

    A container often sees its own group as the root, a service of the host stands deep in the tree.
    Lines of /proc/self/cgroup: "0::/a/b" (version 2), "4:cpu,cpuacct:/a/b" (version 1).
    """
    folders = [cgroup, cgroup / "cpu", cgroup / "memory"]
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        names = {"": [""], "cpu": ["cpu", "cpu,cpuacct"], "memory": ["memory"]}
        for controller in controllers.split(","):
            for name in names.get(controller, []):
                place = cgroup / name / path.lstrip("/")
                while place not in folders and cgroup in place.parents:
                    folders.append(place)
                    place = place.parent
    return folders


def _numa_nodes(system: Path) -> list[frozenset[int]]:
    return [
        _cpu_list(_read(node / "cpulist")) for node in sorted((system / "node").glob("node[0-9]*"))
    ]


def _num_cores(cpus: Iterable[int], system: Path) -> int:
    """Physical cores: a second thread on a core shares its vector units and adds nothing."""
    cores = set()
    for cpu in cpus:
        siblings = _read(system / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list")
        cores.add(min(_cpu_list(siblings), default=cpu))
    return len(cores)


def _cpu_list(text: str) -> frozenset[int]:
    """CPUs of a list such as "0-3,8"."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _read(path: Path) -> str:
    """The text of a file that need not exist: without a control group there is no limit."""
    try:
        return path.read_text()
    except OSError:
        return ""
