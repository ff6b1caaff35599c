"""Compiles the native kernels once per machine and keeps the result.

A plain C interface and the system's compiler: 5 to 10 s, and nothing of it depends on the versions
of Python or torch. The cached file's name is a hash of everything that went into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from shoal.errors import ConfigError

from .isa import InstructionSet

SOURCES = Path(__file__).parent / "src"
FLAGS = (
    "-std=c++20", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread",
)  # fmt: skip
COMPILE_TIMEOUT_S = 300.0


class NoCompiler(ConfigError):
    """There is no C++ compiler, it could not compile the kernels, or they cannot be kept."""


def compiled(isa: InstructionSet, cache: Path) -> Path:
    """The shared library for `isa`, compiled if `cache` has not got it.

    Raises NoCompiler. Processes that build at the same time do the work twice, and agree: the file
    appears by one rename.
    """
    compiler = find_compiler()
    path = cache / f"shoal_cpu-{isa.name}-{_fingerprint(compiler, isa)}.so"
    if not path.exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _remove_remains(cache)
            with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as folder:
                new = Path(folder) / path.name
                compile_library(compiler, isa, SOURCES / "shoal_cpu.cpp", new)
                new.replace(path)
        except OSError as error:
            raise NoCompiler(f"no place for the compiled kernels: {error}") from error
    return path


def _remove_remains(cache: Path) -> None:
    """What processes have left that were killed while they compiled."""
    for folder in cache.glob("build-*"):
        with contextlib.suppress(OSError):  # another process may do the same
            if time.time() - folder.stat().st_mtime > 2 * COMPILE_TIMEOUT_S:
                shutil.rmtree(folder, ignore_errors=True)


def find_compiler() -> str:
    """The C++ compiler: $CXX, else g++, else clang++. Raises NoCompiler."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise NoCompiler(f"no C++ compiler: looked for {' and '.join(names)} on the PATH")


def compile_library(compiler: str, isa: InstructionSet, main: Path, out: Path) -> None:
    """Compile the one source file `main`, with what it includes. Raises NoCompiler."""
    command = [compiler, *FLAGS, *isa.compiler_flags, str(main), "-o", str(out)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompiler(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise NoCompiler(f"{' '.join(command)} failed:\n{done.stderr[:2000]}")


def _fingerprint(compiler: str, isa: InstructionSet) -> str:
    stat = os.stat(compiler)
    digest = hashlib.sha256()
    identity = (
        os.path.realpath(compiler), stat.st_size, stat.st_mtime_ns, FLAGS, isa.compiler_flags,
    )  # fmt: skip
    digest.update(repr(identity).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
