"""Starting and stopping servers."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import httpx
import psutil
import pytest

from shoal.benchmarks.peers.memory_watch import MemoryWatch
from shoal.benchmarks.peers.running import PeerFailed, running
from tests.benchmarks.peers.contestants import broken_server, fake_server


def test_a_server_answers_while_it_runs_and_is_gone_afterwards() -> None:
    with running(fake_server("fake")) as server:
        assert httpx.get(server.url + "/health").status_code == 200
        assert server.start_s > 0
        process = psutil.Process(server.pid)
    assert not process.is_running()


def test_its_children_go_with_it() -> None:
    # A shell that starts the server as its child and stays in between.
    fake = fake_server("fake")
    argv = ["/bin/sh", "-c", f"{sys.executable} {fake.argv[1]} {{port}}; exit 1"]
    with running(replace(fake, argv=argv)) as server:
        shell = psutil.Process(server.pid)
        children = shell.children(recursive=True)
        assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_a_server_that_ends_at_once_is_reported_with_its_last_words() -> None:
    command = broken_server("broken")
    message = r"exit code 1:\nno room for the weights"
    with pytest.raises(PeerFailed, match=message), running(command):
        pass


def test_a_program_that_is_not_there_is_a_failure_of_the_peer() -> None:
    command = replace(fake_server("fake"), argv=["/nowhere/llama-server"])
    with pytest.raises(PeerFailed, match=r"fake cannot start.*No such file"), running(command):
        pass


def test_memory_is_that_of_the_whole_tree() -> None:
    fake = fake_server("fake")
    argv = ["/bin/sh", "-c", f"{sys.executable} {fake.argv[1]} {{port}}; exit 1"]
    with running(replace(fake, argv=argv)) as server, MemoryWatch(server.pid) as memory:
        shell_alone = psutil.Process(server.pid).memory_info().rss
        now = memory.sample()
        assert now > shell_alone
        assert memory.peak_bytes >= now
    deadline = time.monotonic() + 30
    while memory.sample() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert memory.sample() == 0
    assert memory.peak_bytes >= now
