"""Instruction sets that the native kernels are compiled for, best first."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """One way to compile the kernels."""

    name: str
    compiler_flags: tuple[str, ...]
    cpu_features: frozenset[str]
    """What a CPU must have to run it, in the words of /proc/cpuinfo."""


_AVX2 = frozenset({"avx2", "fma", "f16c"})
_AVX512_VNNI = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}

GENERIC = InstructionSet("generic", (), frozenset())
"""What the compiler's default target has: SSE2 on x86-64, NEON on ARM."""

INSTRUCTION_SETS = (
    InstructionSet(
        "avx512_bf16",
        ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"),
        _AVX512_VNNI | {"avx512_bf16"},
    ),
    InstructionSet("avx512_vnni", ("-march=x86-64-v4", "-mavx512vnni"), _AVX512_VNNI),
    InstructionSet("avx2", ("-march=x86-64-v3",), _AVX2),
    GENERIC,
)


def supported(features: frozenset[str], machine: str) -> list[InstructionSet]:
    """Those that a CPU with `features` runs, best first; always at least GENERIC."""
    if machine not in ("x86_64", "AMD64"):
        return [GENERIC]
    return [isa for isa in INSTRUCTION_SETS if isa.cpu_features <= features]


def supported_here(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[InstructionSet]:
    """Those that this machine runs."""
    return supported(_cpu_features(cpuinfo), platform.machine())


def _cpu_features(cpuinfo: Path) -> frozenset[str]:
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())
