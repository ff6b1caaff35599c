from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from shoal.cli import app
from shoal.cli.engine_settings import read_api_keys
from shoal.engine.config import EngineConfig
from shoal.engine.server import run
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError
from tests.cli.conftest import RunHere

GIB = 1 << 30


class FakeServe:
    """Stands for `run.serve`: keeps what it was called with, and is ready at once."""

    config: EngineConfig
    settings: ServerSettings

    def __call__(
        self, config: EngineConfig, settings: ServerSettings, *, progress: Any, on_ready: Any
    ) -> None:
        self.config, self.settings = config, settings
        progress.update("loading weights", 0, 272)
        engine = SimpleNamespace(
            model_name="tiny", tokenizer=SimpleNamespace(has_chat_template=True)
        )
        on_ready(engine, settings.port or 4321)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> FakeServe:
    fake = FakeServe()
    monkeypatch.setattr(run, "serve", fake)
    monkeypatch.setattr("shoal.log.configure_logging", lambda *_, **__: None)
    return fake


def test_defaults_are_those_of_the_settings(served: FakeServe) -> None:
    CliRunner().invoke(app, ["serve", "some/model"], catch_exceptions=False)
    assert served.config == EngineConfig(model="some/model")
    assert served.settings == ServerSettings()


def test_every_option_reaches_its_setting(served: FakeServe, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("filed\n\n")
    options = (
        "--host 0.0.0.0 --port 8123 --served-model-name small --api-key a --api-key b"
        " --cors-origin https://one --cors-origin https://two --max-body-mib 2"
        " --device cuda --dtype float16 --threads 3 --max-model-len 2048 --kv-cache-gib 1.5"
        " --kv-offloading-size 2.5 --no-async-scheduling"
        " --torch-profiler-dir /tmp/traces"
        " --load-format dummy --gpu-memory-utilization 0.5 --no-cuda-graphs --nvtx"
        " --max-num-seqs 8 --max-num-batched-tokens 256"
        " --itl-target-ms 80"
        " --max-num-waiting 9 --queue-timeout-s 0 --drain-timeout-s 7 --on-core-crash exit"
    )
    CliRunner().invoke(
        app, ["serve", "m", *options.split(), "--api-key-file", str(keys)], catch_exceptions=False
    )
    config, settings = served.config, served.settings
    assert (settings.host, settings.port) == ("0.0.0.0", 8123)
    assert settings.api_keys == ("a", "b", "filed")
    assert settings.cors_origins == ("https://one", "https://two")
    assert (settings.max_body_bytes, settings.drain_timeout_s) == (2 << 20, 7.0)
    assert (config.served_model_name, config.device, config.dtype) == ("small", "cuda", "float16")
    assert (config.num_threads, config.max_model_len) == (3, 2048)
    assert (config.load_format, config.gpu_memory_utilization) == ("dummy", 0.5)
    assert (config.cuda_graphs, config.nvtx) == (False, True)
    assert config.kv_cache_bytes == GIB * 3 // 2
    assert config.kv_offloading_bytes == GIB * 5 // 2
    assert not config.async_scheduling
    assert config.torch_profiler_dir == "/tmp/traces"
    assert (config.max_num_seqs, config.max_num_batched_tokens) == (8, 256)
    assert config.itl_target_s == 0.08
    assert (config.max_num_waiting, config.queue_timeout_s) == (9, None)
    assert config.supervision.on_core_crash == "exit"


def test_prefix_caching_can_be_switched_off(served: FakeServe) -> None:
    CliRunner().invoke(app, ["serve", "m", "--no-prefix-caching"], catch_exceptions=False)
    assert not served.config.enable_prefix_caching
    assert served.config.async_scheduling


def test_keys_come_from_the_environment_too(served: FakeServe) -> None:
    CliRunner(env={"SHOAL_API_KEY": "one two"}).invoke(app, ["serve", "m"])
    assert served.settings.api_keys == ("one", "two")


def test_when_ready_it_prints_a_command_that_works(served: FakeServe) -> None:
    done = CliRunner().invoke(app, ["serve", "m", "--port", "0", "--api-key", "secret"])
    assert "Serving tiny on http://127.0.0.1:4321/v1" in done.stdout
    assert "curl http://127.0.0.1:4321/v1/chat/completions" in done.stdout
    assert "Bearer $SHOAL_API_KEY" in done.stdout
    assert "secret" not in done.stdout
    assert done.stderr == "loading weights (272)\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\xff", "cannot be read"), (b"\n", "no key")],
)
def test_a_key_file_without_keys_does_not_open_the_server(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_api_keys(file)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["serve", "./nowhere", "--port", "0"], 1, "'./nowhere' is neither a folder nor a .gguf"),
        (["serve", "m", "--max-num-batched-tokens", "8"], 2, "max_num_batched_tokens (8)"),
        (["serve", "m", "--itl-target-ms", "inf"], 2, "itl_target_s must be positive and finite"),
        (["serve", "m", "--host", "no.such.host.invalid"], 2, "no such host"),
    ],
)
def test_errors_are_one_line(
    run_here: RunHere, arguments: list[str], status: int, message: str
) -> None:
    done = run_here(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_is_quick_and_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['shoal', 'serve', '--help']\n"
        "from shoal.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, loaded = done.stdout.splitlines()
    assert not {"torch", "transformers", "fastapi", "httpx", "tokenizers"} & set(json.loads(loaded))
