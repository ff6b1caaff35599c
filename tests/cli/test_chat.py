from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import FakeServer, RunHere

SHOAL = [sys.executable, "-c", "from shoal.cli import main; main()"]


def run_chat(*options: str, question: str = "Hi") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SHOAL, "chat", *options], input=question, capture_output=True, text=True, check=False
    )


def test_a_piped_question_prints_the_answer_alone(fake_server: FakeServer) -> None:
    done = run_chat("--url", fake_server.url, "--system", "Be brief.", question="Hi\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello there.\n", "")
    (body,) = fake_server.bodies
    assert body["model"] == "tiny"
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert "temperature" not in body  # what is not asked for is the server's to choose


def test_options_reach_the_server(fake_server: FakeServer) -> None:
    fake_server.api_key = "secret"
    run_chat(
        *("--url", fake_server.url + "/v1", "--api-key", "secret", "--model", "tiny"),
        *("--temperature", "0", "--max-tokens", "7"),
    )
    (body,) = fake_server.bodies
    assert (body["temperature"], body["max_completion_tokens"]) == (0.0, 7)


def test_errors_are_one_line_and_no_traceback(
    fake_server: FakeServer, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server.api_key = "secret"
    for options, message in (
        (("--url", fake_server.url), "wrong API key"),
        (("--url", fake_server.url, "--api-key", "secret", "--model", "big"), "there is: tiny"),
        (("--url", "http://127.0.0.1:1"), "Start one with `shoal serve MODEL`"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO("Hi"))
        done = run_here("chat", *options)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


class Terminal:
    """A program on a pseudo terminal: type to it, wait for what it shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str) -> None:
        while not (match := re.search(pattern, self._shown)):
            self._shown += os.read(self._descriptor, 4096).decode()
        self._shown = self._shown[match.end() :]


@contextmanager
def interactive_chat(server: FakeServer) -> Iterator[Terminal]:
    """Fails when the program does not end by itself with status 0."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(
        [*SHOAL, "chat", "--url", server.url],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment,
        preexec_fn=_take_terminal,
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield Terminal(ours)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            os.close(ours)


def _take_terminal() -> None:
    """Make the pseudo terminal the controlling one, so that Ctrl-C becomes SIGINT, and heed that:
    tests that a script began with `&` were told to ignore it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_conversation_remembers_until_it_is_reset(fake_server: FakeServer) -> None:
    with interactive_chat(fake_server) as terminal:
        terminal.wait_for("Chatting with tiny")
        for line, shown in (
            ("one", "Hello there"),
            ("two", "Hello there"),
            ("/nonsense", "no command /nonsense"),
            ("/reset", "forgotten"),
            ("three", "Hello there"),
        ):
            terminal.wait_for("> ")
            terminal.type(line + "\n")
            terminal.wait_for(shown)
        terminal.wait_for("> ")
        terminal.type("/exit\n")
    assert [len(body["messages"]) for body in fake_server.bodies] == [1, 3, 1]


def test_ctrl_c_stops_the_answer_and_not_the_program(fake_server: FakeServer) -> None:
    fake_server.endless = True
    with interactive_chat(fake_server) as terminal:
        terminal.wait_for("> ")
        terminal.type("one\n")
        terminal.wait_for(r"there\.\.\.")
        terminal.type("\x03")
        terminal.wait_for("stopped")
        assert fake_server.hung_up.wait(timeout=60)
        fake_server.endless = False
        terminal.wait_for("> ")
        terminal.type("two\n")
        terminal.wait_for("Hello there")
        terminal.wait_for("> ")
        terminal.type("\x04")  # Ctrl-D
    stopped_answer = fake_server.bodies[1]["messages"][1]
    assert stopped_answer["role"] == "assistant"
    assert stopped_answer["content"].startswith("Hello there...")


def test_a_failed_turn_leaves_no_trace(fake_server: FakeServer) -> None:
    with interactive_chat(fake_server) as terminal:
        terminal.wait_for("> ")
        fake_server.api_key = "changed"
        terminal.type("one\n")
        terminal.wait_for("wrong API key")
        fake_server.api_key = None
        terminal.wait_for("> ")
        terminal.type("two\n")
        terminal.wait_for("Hello there")
        terminal.type("/exit\n")
    assert [len(body["messages"]) for body in fake_server.bodies] == [1]
