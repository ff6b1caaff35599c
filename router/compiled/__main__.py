"""Compiles the router's hot modules: `python -m shoal.router.compiled`, or `make compile-router`.

Needs mypy, setuptools and a C compiler, and takes two minutes or three. Routers that start
afterwards use the result, until a source changes.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shoal.cache_home import cache_home
from shoal.errors import ConfigError

from .modules import MODULES, PACKAGE, compiled_set, source

COMPILE_TIMEOUT_S = 1800.0
_BUILD = "build-"
_LEFT_OUT = ("engine", "kernels", "benchmarks", "autoscaler", "cli", "__pycache__")
_SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

setup(
    name="shoal-router-compiled",
    packages=[],
    ext_modules=mypycify({files!r}, opt_level="2", debug_level="0", multi_file=True),
)
"""


def main() -> int:
    try:
        print(compile_modules(cache_home()))
    except ConfigError as error:
        print(f"The router is not compiled: {error}", file=sys.stderr)
        return 1
    return 0


def compile_modules(cache: Path) -> Path:
    """The folder of the compiled set, made if it is not there; older sets are removed.

    Raises ConfigError when it cannot be made.
    """
    folder = compiled_set(cache)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.iterdir():
            if not _is_being_built(old):
                shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_BUILD) as scratch:
            _build(Path(scratch), Path(scratch) / "out")
            with contextlib.suppress(OSError):  # another process was faster
                (Path(scratch) / "out").rename(folder)
    except OSError as error:
        raise ConfigError(f"no place for the compiled modules: {error}") from error
    return folder


def _is_being_built(folder: Path) -> bool:
    """By another process, which would fail if it lost it."""
    with contextlib.suppress(OSError):
        age_s = time.time() - folder.stat().st_mtime
        return folder.name.startswith(_BUILD) and age_s < COMPILE_TIMEOUT_S
    return False


def _build(scratch: Path, out: Path) -> None:
    shutil.copytree(PACKAGE, scratch / "shoal", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    files = [str(Path("shoal") / source(module).relative_to(PACKAGE)) for module in MODULES]
    (scratch / "setup.py").write_text(_SETUP.format(files=files), encoding="utf-8")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(out)]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"compiling took more than {COMPILE_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise ConfigError("\n".join(errors[-10:]) or f"exit status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
