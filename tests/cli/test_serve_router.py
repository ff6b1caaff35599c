"""`shoal serve --router`, with a fake worker in the place of a model."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from shoal.cli import app, serve_router
from shoal.cli.worker_order import WorkerOrder
from shoal.engine.config import EngineConfig, SupervisionConfig
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError

PROGRAM = """
import sys
from pathlib import Path
from shoal.cli.serve_router import serve_behind_router
from shoal.cli.worker_order import WorkerOrder
from shoal.engine.config import EngineConfig
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ShoalError
from shoal.log import configure_logging
configure_logging("console", level="error")
order = WorkerOrder(
    config=EngineConfig(model="m"), settings=ServerSettings(port=0, api_keys=("key",)),
    log_format="console", log_level="error",
)
try:
    serve_behind_router(
        order, admin_port=0, worker_command=(sys.executable, "-c", Path(sys.argv[1]).read_text())
    )
except ShoalError as error:
    sys.exit(f"Error: {error}")
"""
WORKER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
settings = json.load(sys.stdin)["settings"]
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health" and os.path.exists({dead!r}):
            os._exit(3)
        [key] = settings["api_keys"]
        good = self.headers["Authorization"] == f"Bearer {{key}}" or self.path == "/health"
        body = json.dumps({{"object": "list", "data": [{{"id": "tiny", "object": "model"}}]}})
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_): pass
server = ThreadingHTTPServer((settings["host"], settings["port"]), Handler)
ready = {{"port": server.server_port, "model": "tiny", "has_chat_template": True}}
os.write(int(sys.argv[1]), json.dumps(ready).encode() + b"\\n")
server.serve_forever()
"""


@contextlib.contextmanager
def served(worker: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(worker)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_router_has_the_address_and_the_keys_and_ctrl_c_ends_both(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(dead=str(tmp_path / "dead")))
    with served(worker) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        text = "".join(iter(process.stdout.readline, "Ctrl-C stops the server.\n"))
        assert "Bearer $SHOAL_API_KEY" in text
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/models", timeout=5)
        request = urllib.request.Request(f"{url}/models", headers={"Authorization": "Bearer key"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert [model["id"] for model in json.load(answer)["data"]] == ["tiny"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_worker_that_dies_ends_the_command(tmp_path: Path) -> None:
    worker, dead = tmp_path / "worker.py", tmp_path / "dead"
    worker.write_text(WORKER.format(dead=str(dead)))
    with served(worker) as process:
        assert process.stdout is not None
        process.stdout.readline()
        dead.touch()
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "the worker has ended with status 3" in process.stderr.read()


def test_a_worker_that_cannot_start_gives_its_status(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import sys; print('Error: no such model', file=sys.stderr); sys.exit(2)")
    with served(worker) as process:
        assert process.wait(20) == 2
        assert process.stderr is not None
        assert process.stderr.read() == "Error: no such model\n"


def test_options_reach_the_worker_and_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def fake(order: WorkerOrder, **options: Any) -> None:
        called.update(options, order=order)

    monkeypatch.setattr(serve_router, "serve_behind_router", fake)
    monkeypatch.setattr("shoal.log.configure_logging", lambda *_, **__: None)
    options = (
        "--router --router-config r.yaml --admin-port 9 --port 7 --threads 3 --log-level error"
    )
    CliRunner().invoke(app, ["serve", "m", *options.split()], catch_exceptions=False)
    assert (called["admin_port"], called["router_config"]) == (9, Path("r.yaml"))
    order = called["order"]
    assert (order.config.num_threads, order.settings.port, order.log_level) == (3, 7, "error")


def test_settings_of_a_router_need_one() -> None:
    with pytest.raises(ConfigError, match="add --router"):
        CliRunner().invoke(app, ["serve", "m", "--router-config", "r"], catch_exceptions=False)


def test_an_order_is_read_as_it_was_written() -> None:
    order = WorkerOrder(
        config=EngineConfig(
            model="m", kv_cache_bytes=1 << 40, itl_target_s=0.02, kv_cache_dtype="int8",
            supervision=SupervisionConfig(on_core_crash="exit", max_restarts=2),
        ),
        settings=ServerSettings(host="::1", port=0, api_keys=("a", "b")),
        log_format="json",
        log_level="warning",
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(order), type=WorkerOrder) == order
