"""Facts about the machine, and the defaults that follow from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from shoal.errors import ConfigError

CGROUP = Path("/sys/fs/cgroup")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype for a setting: "auto" or a key of DTYPES. Raises ConfigError otherwise."""
    if name == "auto":
        if device.type == "cuda":
            return auto_cuda_dtype(torch.cuda.get_device_capability(device))
        return auto_cpu_dtype(torch.cpu.get_capabilities())
    if name not in DTYPES:
        allowed = ", ".join(["auto", *DTYPES])
        raise ConfigError(f"dtype is {name!r}, but must be one of: {allowed}")
    return DTYPES[name]


def auto_cpu_dtype(capabilities: Mapping[str, object]) -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware, else float32.

    Without such instructions oneDNN converts every operand, which costs more than the halved
    memory traffic saves. `capabilities` is what `torch.cpu.get_capabilities()` tells.
    """
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def auto_cuda_dtype(compute_capability: tuple[int, int]) -> torch.dtype:
    """bfloat16 from Ampere (8.0) on, float16 before it."""
    return torch.bfloat16 if compute_capability >= (8, 0) else torch.float16


def default_num_threads() -> int:
    """Threads for torch: the physical cores that this process may use.

    A second thread on a core shares its vector units, so it adds nothing to a matmul.
    """
    facts = torch.cpu.get_capabilities()
    threads_per_core = int(facts["num_logical_cores"]) // int(facts["num_physical_cores"])
    cores = len(os.sched_getaffinity(0)) // max(threads_per_core, 1)
    quota = cgroup_cpus(CGROUP)
    return max(cores if quota is None else min(cores, int(quota)), 1)


def available_memory(device: torch.device) -> int:
    """Bytes of the device's memory that are free for us now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = meminfo_available(Path("/proc/meminfo"))
    limit = cgroup_memory_left(CGROUP)
    return free if limit is None else min(free, limit)


def cgroup_cpus(cgroup: Path) -> float | None:
    """CPUs that a version 2 control group grants; None when it sets no limit."""
    quota = _read(cgroup / "cpu.max").split()  # "150000 100000" or "max 100000"
    return None if not quota or quota[0] == "max" else int(quota[0]) / int(quota[1])


def cgroup_memory_left(cgroup: Path) -> int | None:
    """Bytes under the memory limit of a version 2 control group; None when it sets no limit."""
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    return None if limit in ("", "max") or not used else max(int(limit) - int(used), 0)


def meminfo_available(meminfo: Path) -> int:
    """`MemAvailable` of /proc/meminfo in bytes."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _read(path: Path) -> str:
    """The text of a file that need not exist: without a control group there is no limit."""
    try:
        return path.read_text()
    except OSError:
        return ""
