"""The command line inside the test's process, and a tiny OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import CompletedProcess
from typing import Any

import pytest

from shoal.cli import main

RunHere = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    """`shoal` with these arguments, from `main` on: a tenth of what a process of its own takes."""
    monkeypatch.setattr("shoal.log.configure_logging", lambda *_, **__: None)

    def run(*arguments: str) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["shoal", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert isinstance(status, int)
        return CompletedProcess(arguments, status, *capsys.readouterr())

    return run


class FakeServer(ThreadingHTTPServer):
    """Answers each chat with the words in `answer`; keeps the bodies it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = ["Hello", " there", "."]
        self.api_key: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.endless = False
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        if self._is_allowed():
            self._reply(200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._is_allowed():
            return
        self.server.bodies.append(body)
        if body["model"] != "tiny":
            self._reply(404, {"error": {"message": "no model of that name; there is: tiny"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for word in self.server.answer:
                self._event({"choices": [{"index": 0, "delta": {"content": word}}]})
            while self.server.endless:
                self._event({"choices": [{"index": 0, "delta": {"content": "."}}]})
                threading.Event().wait(0.02)
        except OSError:
            self.server.hung_up.set()
            return
        self.wfile.write(b"data: [DONE]\n\n")

    def _is_allowed(self) -> bool:
        key = self.server.api_key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._reply(401, {"error": {"message": "wrong API key"}})
        return False

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.endless = False
        server.shutdown()
        thread.join()
