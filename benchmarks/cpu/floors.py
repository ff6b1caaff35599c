"""What this processor can do at best, measured: the floors that kernels are held against."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shoal.kernels.cpu.build import compile_library, find_compiler
from shoal.kernels.cpu.isa import supported_here
from shoal.kernels.cpu.memory import zeroed

SOURCE = Path(__file__).with_name("floors.cpp")
READ_BYTES = 512 << 20
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Floors:
    """Rates of all threads together."""

    num_threads: int
    read_bytes_per_s: float
    """From memory, in order."""
    multiply_adds_per_s: dict[int, float]
    """By bits of a weight; 0: not measured on this instruction set."""

    def seconds(self, *, num_bytes: float, multiply_adds: dict[int, float]) -> float:
        """The least time for work that reads so much and multiplies so much, both at once."""
        computing = sum(
            count / self.multiply_adds_per_s[bits]
            for bits, count in multiply_adds.items()
            if self.multiply_adds_per_s[bits]
        )
        return max(num_bytes / self.read_bytes_per_s, computing)


def measure_floors(num_threads: int) -> Floors:
    """Takes some seconds. Raises NoCompiler."""
    isa = supported_here()[0]
    with tempfile.TemporaryDirectory(prefix="shoal-floors-") as folder:
        path = Path(folder) / "floors.so"
        compile_library(find_compiler(), isa, SOURCE, path)
        library = ctypes.CDLL(str(path))
    read, multiply = library.floor_read_bytes, library.floor_multiply_adds
    read.restype = multiply.restype = ctypes.c_double
    read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32]
    multiply.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]
    memory = zeroed(READ_BYTES)
    memory[:] = 1  # untouched pages are one page of zeros
    return Floors(
        num_threads=num_threads,
        read_bytes_per_s=read(memory.ctypes.data, READ_BYTES, num_threads, REPEATS),
        multiply_adds_per_s={bits: multiply(bits, num_threads, REPEATS) for bits in (4, 8, 16)},
    )
