"""Processes have an owner and an end; what they use is measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from shoal.benchmarks.router.processes import ServerProcess, free_ports
from shoal.benchmarks.router.programs import BenchFailed, compile_programs
from shoal.benchmarks.router.usage import cpu_s, pss_bytes, tree

READY = httpx.Request("GET", "http://127.0.0.1:1/health")
CHILDREN = (
    "import subprocess, sys, time;"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print('started', flush=True); time.sleep(60)"
)


def test_one_that_ends_at_once_says_why(tmp_path: Path) -> None:
    program = "raise SystemExit('no such model')"
    process = ServerProcess("broken", [sys.executable, "-c", program], ready=READY,
                            log=tmp_path / "log")  # fmt: skip
    with process, pytest.raises(BenchFailed, match=r"broken has ended:\nno such model"):
        process.wait_until_ready()


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    process = ServerProcess("missing", ["/nowhere"], ready=READY, log=tmp_path / "log")
    with pytest.raises(BenchFailed, match="missing cannot start"), process:
        pass


def test_its_children_end_with_it_even_when_it_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ServerProcess("parent", [sys.executable, "-c", CHILDREN], ready=READY, log=log) as process:
        wait_for(lambda: "started" in log.read_text())
        pids = tree([process.pid])
        assert len(pids) == 2
        process.signal(signal.SIGSTOP)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_killed_server_starts_again_on_its_port(
    mock_process: Callable[..., ServerProcess],
) -> None:
    process = mock_process()
    process.kill()
    assert process.has_ended
    process.start()
    process.wait_until_ready()


def test_one_that_goes_on_is_an_error(mock_process: Callable[..., ServerProcess]) -> None:
    with pytest.raises(BenchFailed, match="still runs"):
        mock_process().wait_until_ended(0.01)


def test_cpu_time_is_of_the_whole_tree_and_finer_than_a_tick() -> None:
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c',"
        "'import time\\nwhile time.process_time() < 60: pass'])"
    )
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        wait_for(lambda: len(tree([process.pid])) == 2 and cpu_s([process.pid]) > 0.05)
        readings = [cpu_s([process.pid]) for _ in range(2)]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert readings[0] <= readings[1]
    assert readings[0] * 100 != round(readings[0] * 100)


def test_memory_is_that_of_living_processes() -> None:
    assert pss_bytes([os.getpid()]) > 1 << 20
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert pss_bytes([process.pid]) == 0
    assert cpu_s([process.pid]) == 0


def test_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_without_a_compiler_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchFailed, match="install gcc"):
        compile_programs(tmp_path)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
