"""Compiles the CPU kernels now: `python -m shoal.engine.compile_kernels`.

A worker compiles what it lacks at its first start, which takes some 10 s. Set-ups and images do it
here, so that no start waits for a compiler. Exit status 1: there is none, and torch will compute.
"""

from __future__ import annotations

import sys

from shoal.cache_home import cache_home
from shoal.kernels.cpu.build import NoCompiler, compiled
from shoal.kernels.cpu.isa import supported_here


def main() -> int:
    try:
        print(compiled(supported_here()[0], cache_home() / "kernels"))
    except NoCompiler as error:
        print(f"the CPU kernels are not compiled: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
