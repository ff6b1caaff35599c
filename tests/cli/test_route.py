from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shoal.cli import app
from shoal.cli.route import route_announcement
from shoal.errors import ConfigError
from shoal.router.control import run
from shoal.router.control.load import Loaded, Source, load
from shoal.router.control.run import Serving

WORKER = {"url": "http://10.0.0.7:8000", "engine": "vllm", "status": "ready", "models": ["tiny"]}
SERVING = Serving(
    host="0.0.0.0", port=8080, admin_host="127.0.0.1", admin_port=8081, uses_tls=False,
    needs_key=False, processes=1, endpoints=[WORKER], replaced_pid=None,
)  # fmt: skip


class FakeRun:
    """Stands for `run.prepare` and `run.serve`: keeps what they were called with."""

    def __init__(self) -> None:
        self.source = Source()
        self.takeover = False
        self.options: dict[str, Any] = {}

    @property
    def loaded(self) -> Loaded:
        return load(self.source)

    def prepare(self, source: Source, *, takeover: bool) -> FakeRun:
        self.source, self.takeover = source, takeover
        return self

    def serve(self, prepared: FakeRun, *, on_ready: Any, **options: Any) -> None:
        assert prepared is self
        self.options = options
        on_ready(SERVING)


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr(run, "prepare", fake.prepare)
    monkeypatch.setattr(run, "serve", fake.serve)
    monkeypatch.setattr("shoal.log.configure_logging", lambda *_, **__: None)
    return fake


def shoal(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["route", *arguments], catch_exceptions=False)


def test_without_options_it_is_the_defaults(routed: FakeRun) -> None:
    done = shoal()
    assert done.exit_code == 0
    assert routed.source == Source()
    assert (routed.takeover, routed.options["watches"]) == (False, False)


def test_every_option_reaches_its_setting(routed: FakeRun, tmp_path: Path) -> None:
    keys, admin_keys, file = tmp_path / "keys", tmp_path / "admin", tmp_path / "router.yaml"
    keys.write_text("k\n")
    admin_keys.write_text("a\n")
    file.write_text("listen: {port: 1, processes: 2}\nretry: {max_attempts: 2}\n")
    shoal(
        *"--worker http://a:1 --worker http://b:2 --policy session --host 0.0.0.0 --port 0"
        " --processes 3 --allow-open --admin-host :: --admin-port 9 --watch --takeover"
        f" --log-format json --log-level error --config {file} --api-key-file {keys}"
        f" --admin-key-file {admin_keys}".split()
    )
    config = routed.loaded.config
    assert [each.url for each in config.discovery.static] == ["http://a:1", "http://b:2"]
    assert config.routing.policy == "session"
    listen = config.listen
    assert (listen.host, listen.port, listen.processes) == ("0.0.0.0", 0, 3)
    assert listen.allow_open
    assert (config.admin.host, config.admin.port) == ("::", 9)
    assert routed.loaded.admin_keys == ("a",)
    assert config.retry.max_attempts == 2
    assert config.auth.keys_file is not None
    assert (routed.takeover, routed.options["watches"]) == (True, True)
    assert routed.options["command"][-4:] == ("--log-format", "json", "--log-level", "error")


def test_it_tells_where_it_is_and_how_to_try_it(routed: FakeRun) -> None:
    text = shoal().stdout
    assert "Routing to 1 worker on http://127.0.0.1:8080/v1" in text
    assert "http://10.0.0.7:8000  vllm  ready  tiny" in text
    assert "Admin API on http://127.0.0.1:8081" in text
    assert "curl http://127.0.0.1:8080/v1/chat/completions" in text
    assert '"model": "tiny"' in text
    assert "Bearer" not in text


def test_announcements_say_what_is_special() -> None:
    text = route_announcement(SERVING._replace(uses_tls=True, needs_key=True, replaced_pid=7))
    assert "on https://127.0.0.1:8080/v1" in text
    assert "Bearer $SHOAL_API_KEY" in text
    assert "The router before this one (pid 7) ends by itself." in text
    text = route_announcement(SERVING._replace(endpoints=[]))
    assert "Routing to 0 workers" in text
    assert "curl http://127.0.0.1:8081/admin/endpoints -d" in text
    text = route_announcement(SERVING._replace(endpoints=[{**WORKER, "models": []}] * 2))
    assert "Routing to 2 workers" in text
    assert "no model yet" in text
    assert "chat/completions" not in text


def test_the_schema_is_printed() -> None:
    done = shoal("--print-schema")
    assert json.loads(done.stdout)["title"] == "Configuration of shoal route"


def test_a_configuration_can_be_checked_without_a_start(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("routing: {policy: cost}\n")
    assert shoal("--check", "--config", str(file)).stdout == "The configuration is good.\n"
    file.write_text("routing: {policy: best}\n")
    with pytest.raises(ConfigError, match=r"routing\.policy: 'best' is not one of"):
        shoal("--check", "--config", str(file))
