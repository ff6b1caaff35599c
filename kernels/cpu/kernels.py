"""The native kernels of this machine, ready to call."""

from __future__ import annotations

import ctypes
from pathlib import Path

from .build import compiled
from .isa import supported_here
from .library import open_library


def native_kernels(cache: Path) -> ctypes.CDLL:
    """Those for the best instruction set that the CPU has; `cache` keeps what is compiled.

    Takes some 10 s the first time on a machine. Raises NoCompiler.
    """
    return open_library(compiled(supported_here()[0], cache))
