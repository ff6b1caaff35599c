"""The two C programs of this benchmark, compiled at first use and again when a source changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import ShoalError

NATIVE = Path(__file__).parent / "native"
COMPILE_TIMEOUT_S = 120


class BenchFailed(ShoalError):
    """Something of the benchmark's own did not work; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the compiled programs."""

    mock_worker: Path
    load_client: Path


def compile_programs(into: Path) -> Programs:
    """Raises BenchFailed without a C compiler, or when one refuses the sources."""
    return Programs(_compile("mock_worker", into), _compile("load_client", into))


def _compile(name: str, into: Path) -> Path:
    sources = [*sorted(NATIVE.glob("*.h")), NATIVE / f"{name}.c"]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    program = into / f"{name}-{digest}"
    if program.is_file():
        return program
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchFailed("no C compiler: install gcc (Debian: apt install gcc)")
    into.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(".partial")
    done = subprocess.run(
        [compiler, "-O2", "-o", partial, sources[-1]],
        capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BenchFailed(f"{compiler} cannot compile {sources[-1]}:\n{done.stderr[-2000:]}")
    partial.replace(program)
    return program
