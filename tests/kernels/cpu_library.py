"""The compiled kernels for tests: one build a session and instruction set."""

from __future__ import annotations

import ctypes
from functools import cache

import pytest

from shoal.engine.sources.cache import cache_home
from shoal.kernels.cpu.build import NoCompiler, compiled
from shoal.kernels.cpu.isa import supported_here
from shoal.kernels.cpu.library import open_library

INSTRUCTION_SETS = [isa.name for isa in supported_here()]
"""Every path that this machine can run, the plain one included."""


@cache
def kernels(name: str = INSTRUCTION_SETS[0]) -> ctypes.CDLL:
    """The kernels of an instruction set; skips the test where nothing can compile them."""
    (isa,) = (isa for isa in supported_here() if isa.name == name)
    try:
        return open_library(compiled(isa, cache_home() / "kernels"))
    except NoCompiler as error:
        pytest.skip(str(error))
