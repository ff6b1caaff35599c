"""Start a server, wait until it answers, stop it: one context manager for every kind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

HERE = Path(__file__).parent
START_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start one server; `{port}` in the arguments becomes a free port."""

    name: str
    argv: list[str]
    model: str
    ready_path: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningServer:
    url: str
    start_s: float
    """From process start to the first good answer of its ready path."""


def shoal(model: str) -> ServerCommand:
    program = str(Path(sys.executable).with_name("shoal"))
    argv = [program, "serve", model, "--port", "{port}"]
    return ServerCommand("shoal", [*argv, "--served-model-name", "smollm2"], "smollm2", "/ready")


def vllm(python: Path, hf_folder: Path) -> ServerCommand:
    """vLLM's fastest set-up on a two-core machine: eager (compiling takes minutes), both cores
    bound, tcmalloc and Intel's OpenMP preloaded where they are installed."""
    preload = [
        Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"),
        python.parent.parent / "lib/libiomp5.so",
    ]
    cores = f"0-{(os.cpu_count() or 1) - 1}"
    return ServerCommand(
        "vllm",
        [
            str(python), str(HERE / "vllm_main.py"), "serve", str(hf_folder), "--port", "{port}",
            "--host", "127.0.0.1", "--served-model-name", "smollm2", "--dtype", "bfloat16",
            "--max-model-len", "8192", "--max-num-seqs", "64", "--enforce-eager",
        ],
        "smollm2",
        env={
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": cores,
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "LD_PRELOAD": ":".join(str(path) for path in preload if path.exists()),
        },
    )  # fmt: skip


@contextmanager
def running(command: ServerCommand) -> Iterator[RunningServer]:
    """The server while it runs, in a process group of its own that is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [arg.format(port=port) for arg in command.argv]
    with tempfile.NamedTemporaryFile("w+", prefix=f"{command.name}-", suffix=".log") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, stdout=log, stderr=log, env={**os.environ, **command.env}, start_new_session=True
        )
        try:
            _wait_until_ready(process, url + command.ready_path, Path(log.name))
            yield RunningServer(url, time.perf_counter() - start)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{tail}")
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} was not ready after {START_TIMEOUT_S:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for signum, timeout_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, signum)
            process.wait(timeout_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; what it may have left in its group goes with SIGKILL.
