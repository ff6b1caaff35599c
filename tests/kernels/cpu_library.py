"""The compiled kernels for tests: one build a session and instruction set.

With SHOAL_TEST_EMULATED=1 also those that this processor has not, by emulation (x86-64 with AVX2,
Debian's libsimde-dev): `make test-emulated`.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import pytest

from shoal.cache_home import cache_home
from shoal.kernels.cpu.build import SOURCES, NoCompiler, compile_library, compiled, find_compiler
from shoal.kernels.cpu.isa import InstructionSet, supported_here
from shoal.kernels.cpu.library import open_library

_EMULATION = ("-march=x86-64-v3", "-O2", "-w", "-include",
              str(Path(__file__).with_name("avx512_on_simde.h")))  # fmt: skip
_EMULATED = {
    "avx512_vnni (emulated)": _EMULATION,
    "avx512_bf16 (emulated)": ("-DSHOAL_EMULATE_BF16", *_EMULATION),
}

INSTRUCTION_SETS = [isa.name for isa in supported_here()]
"""Every path that this machine can run, the plain one included."""
if os.environ.get("SHOAL_TEST_EMULATED"):
    INSTRUCTION_SETS += _EMULATED


@cache
def kernels(name: str = INSTRUCTION_SETS[0]) -> ctypes.CDLL:
    """The kernels of an instruction set; skips the test where nothing can compile them."""
    folder = cache_home() / "kernels"
    try:
        if flags := _EMULATED.get(name):
            isa = InstructionSet(name, flags, frozenset())
            path = folder / f"emulated-{os.getpid()}" / f"{name}.so"
            path.parent.mkdir(parents=True, exist_ok=True)
            compile_library(find_compiler(), isa, SOURCES / "shoal_cpu.cpp", path)
            library = open_library(path)
            path.unlink()  # loaded: nobody else needs it
            path.parent.rmdir()
            return library
        (isa,) = (isa for isa in supported_here() if isa.name == name)
        return open_library(compiled(isa, folder))
    except NoCompiler as error:
        pytest.skip(str(error))
