"""`shoal status`, before an admin API that is a stand-in."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shoal.cli.running_up import RunningUp, all_running, file_of, told
from shoal.cli.status_view import render
from tests.cli.conftest import RunHere

DECISION = {
    "time": 970.0, "model": "tiny", "mode": "auto", "applied": True, "valid": True,
    "before": {"local": 1}, "desired": {"local": 2}, "explain": {}, "failures": {},
    "reasons": [{"kind": "demand", "variant": "local", "detail": "load 1.4, need 2.1 replicas"}],
}  # fmt: skip
NOTHING = {**DECISION, "desired": {"local": 1}, "time": 980.0}
WORKER = {
    "name": "worker-0", "state": "ready", "since_s": 3.0, "pid": 41, "url": "http://127.0.0.1:4321",
    "endpoint_id": "worker-0", "start_up_s": 1.234, "num_restarts": 0, "why": "",
    "next_start_in_s": None,
}  # fmt: skip
FAILING = {
    **WORKER, "name": "worker-1", "state": "backing_off", "pid": None, "url": None,
    "endpoint_id": None, "start_up_s": None, "num_restarts": 3, "next_start_in_s": 7.6,
    "why": "exit status 1: out of memory",
}  # fmt: skip
PAGES: dict[str, Any] = {
    "/admin/endpoints": {
        "endpoints": [
            {"endpoint_id": "worker-0", "url": "http://127.0.0.1:4321", "status": "ready",
             "in_flight": 3, "models": ["tiny"], "last_error": None},
            {"endpoint_id": "http://10.0.0.7:80", "url": "http://10.0.0.7:80",
             "status": "unhealthy", "in_flight": 0, "models": ["big"], "last_error": "refused"},
        ],
        "held": {"tiny": 5},
    },
    "/autoscaler/models": {
        "models": [
            {"model": "tiny", "mode": "auto", "attainment": 0.984,
             "variants": [{"name": "local", "desired": 2, "ready": 1, "pending": 1, "draining": 0,
                           "min_replicas": 0, "max_replicas": 3}],
             "demand": {"arrivals_per_s": 2.5, "queued": 1, "held": 4}}
        ]
    },
    "/autoscaler/workers": {"workers": [WORKER, FAILING]},
    "/autoscaler/decisions?limit=1000": {"decisions": [NOTHING, DECISION]},
}  # fmt: skip


class Admin(ThreadingHTTPServer):
    """Answers with `pages`; 401 without its key, if it has one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = dict(PAGES)
        self.key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Admin

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        status = 404 if page is None else 200
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            status = 401
        body = json.dumps(page).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Admin]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with Admin() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def up(admin: Admin, port: int, *, pid: int | None = None) -> RunningUp:
    return RunningUp(
        pid=pid or os.getpid(), port=port, url=f"http://127.0.0.1:{port}", admin_url=admin.url,
        model="tiny",
    )  # fmt: skip


def shown(found: dict[str, Any]) -> str:
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(found, now=1000.0))
    console.file.close()
    return console.export_text()


def test_what_is_shown() -> None:
    pages = PAGES
    text = shown(
        {
            "admin_url": "http://127.0.0.1:8124", "url": "http://127.0.0.1:8123", "pid": 7,
            **pages["/admin/endpoints"], **pages["/autoscaler/models"],
            **pages["/autoscaler/workers"], "decisions": [DECISION],
        }
    )  # fmt: skip
    lines = [line.split() for line in text.splitlines()]
    assert "API http://127.0.0.1:8123/v1  admin http://127.0.0.1:8124  pid 7" in text
    assert "2.50 requests/s, 1 queued, 5 held for a first worker, 98% in time" in text
    assert ["local", "2", "1", "1", "0", "0", "to", "3"] in lines
    assert ["worker-0", "ready", "41", "4321", "3", "1", "1.23", "s"] in lines
    assert "backing off" in text
    assert "next start in 8 s: exit status 1: out of memory" in text
    assert "http://10.0.0.7:80  unhealthy" in text
    assert "30 s ago  1 -> 2    demand: load 1.4, need 2.1 replicas" in text


def test_at_zero_and_without_an_autoscaler() -> None:
    nothing = {"endpoints": [], "held": {}, "models": [], "workers": [], "decisions": []}
    text = shown({"admin_url": "http://a", "url": None, "pid": None, **nothing})
    assert text.split("\n")[0].strip() == "admin http://a"
    assert "No worker runs." in text


def test_the_one_that_runs_is_found(admin: Admin, run_here: RunHere) -> None:
    with told(up(admin, 8123)):
        assert file_of(8123).parent.stat().st_mode & 0o077 == 0
        done = run_here("status", "--json")
        found = json.loads(done.stdout)
        assert (found["url"], found["held"]) == ("http://127.0.0.1:8123", {"tiny": 5})
        assert found["decisions"] == [DECISION]  # the one that changed something
        assert [worker["name"] for worker in found["workers"]] == ["worker-0", "worker-1"]
        with told(up(admin, 9000)):
            done = run_here("status")
            assert done.returncode == 2
            assert "--port 8123 (tiny), --port 9000 (tiny)" in done.stderr
            assert "worker-0" in run_here("status", "--port", "9000").stdout
    assert all_running() == []


def test_without_a_place_for_its_file_it_runs_all_the_same(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "shoal").mkdir(mode=0o755)  # others could look in
    with told(up(admin, 8123)):
        assert not list((tmp_path / "shoal").iterdir())


def test_one_that_was_killed_is_not_running(admin: Admin) -> None:
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    with told(up(admin, 8123, pid=gone)):
        assert all_running() == []


def test_a_router_alone(admin: Admin, run_here: RunHere) -> None:
    admin.pages = {"/admin/endpoints": PAGES["/admin/endpoints"]}
    found = json.loads(run_here("status", "--url", admin.url, "--json").stdout)
    assert (found["models"], found["workers"], found["decisions"]) == ([], [], [])
    assert "unhealthy" in run_here("status", "--url", admin.url).stdout


def test_it_is_watched_until_ctrl_c(
    admin: Admin, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("shoal.cli.status.time.sleep", sleep)
    assert run_here("status", "--url", admin.url, "--watch").returncode == 0
    assert len(looks) == 3


def test_what_can_be_wrong(admin: Admin, run_here: RunHere) -> None:
    def told_error(*options: str) -> tuple[int, str]:
        done = run_here("status", *options)
        return done.returncode, done.stderr

    assert told_error("--port", "8123", "--url", "http://x")[0] == 2
    status, text = told_error("--port", "8123")
    assert (status, "no shoal up of this user serves port 8123" in text) == (2, True)
    admin.key = "secret"
    status, text = told_error("--url", admin.url)
    assert (status, "wants a key: --admin-key" in text) == (1, True)
    assert run_here("status", "--url", admin.url, "--admin-key", "secret").returncode == 0
    admin.pages = {}
    status, text = told_error("--url", admin.url, "--admin-key", "secret")
    assert (status, "is no admin API of a router" in text) == (1, True)
    status, text = told_error("--url", "http://127.0.0.1:9")
    assert (status, "nothing answers at http://127.0.0.1:9" in text) == (1, True)
