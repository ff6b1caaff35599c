from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shoal.engine.runner.device import (
    auto_cpu_dtype,
    auto_cuda_dtype,
    available_memory,
    cgroup_cpus,
    cgroup_memory_left,
    default_num_threads,
    meminfo_available,
    resolve_dtype,
)
from shoal.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_auto_dtype_on_a_cpu(capabilities: dict[str, object], expected: torch.dtype) -> None:
    assert auto_cpu_dtype(capabilities) is expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_auto_dtype_on_a_gpu(capability: tuple[int, int], expected: torch.dtype) -> None:
    assert auto_cuda_dtype(capability) is expected


def test_named_dtypes() -> None:
    assert resolve_dtype("float16", CPU) is torch.float16
    assert resolve_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigError, match=r"'int8'.*auto, float32, bfloat16, float16"):
        resolve_dtype("int8", CPU)


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)]
)
def test_cpus_of_a_control_group(tmp_path: Path, text: str, expected: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_cpus(tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("1000", "300", 700), ("max", "300", None), ("10", "30", 0)]
)
def test_memory_of_a_control_group(
    tmp_path: Path, limit: str, used: str, expected: int | None
) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    assert cgroup_memory_left(tmp_path) == expected


def test_without_a_control_group_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_cpus(tmp_path) is None
    assert cgroup_memory_left(tmp_path) is None


def test_meminfo(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   64 kB\nHugePages_Total:  0\n")
    assert meminfo_available(meminfo) == 65_536


def test_this_machine() -> None:
    assert default_num_threads() >= 1
    assert available_memory(CPU) > 0
