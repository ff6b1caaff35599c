"""What is recorded of the machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from shoal import __version__
from shoal.benchmarks import environment as module
from shoal.benchmarks.environment import cpu_features, environment


def test_the_machine_and_the_versions_are_recorded() -> None:
    recorded = environment()
    assert recorded["python"] == platform.python_version()
    assert recorded["shoal"] == __version__
    assert isinstance(recorded["memory_gib"], float)
    assert 0.1 < recorded["memory_gib"] < 100_000
    assert str(recorded["os"]).startswith(platform.system())
    assert json.loads(json.dumps(recorded)) == recorded


def test_the_command_can_be_run_again_but_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", main)
    words = ["bench", "run", "--api-key", "s3cret", "--api-key=s3cret", "--slo", "ttft: 1s"]
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/shoal", *words])
    expected = "shoal bench run --api-key HIDDEN --api-key=HIDDEN --slo 'ttft: 1s'"
    assert environment()["command"] == expected


def test_a_module_is_named_as_python_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__spec__ = ModuleSpec("shoal.benchmarks.peers.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/x/__main__.py", "--repeats", "1"])
    assert environment()["command"] == "python -m shoal.benchmarks.peers --repeats 1"


def test_features_are_single_words() -> None:
    assert all(feature and " " not in feature for feature in cpu_features())


def test_a_machine_without_nvidia_tools_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert environment()["gpu"] is None


@pytest.mark.parametrize(
    ("code", "stdout", "expected"),
    [(0, "NVIDIA H100\nNVIDIA H100\n", "NVIDIA H100, NVIDIA H100"), (0, "\n", None),
     (9, "NVIDIA-SMI has failed\n", None)],
)  # fmt: skip
def test_gpus_are_named_when_the_driver_answers(
    monkeypatch: pytest.MonkeyPatch, code: int, stdout: str, expected: str | None
) -> None:
    run = subprocess.run

    def answer(command: list[str], **options: object) -> object:
        if command[0] == "/bin/nvidia-smi":
            return subprocess.CompletedProcess(command, code, stdout, "")
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(module.subprocess, "run", answer)
    assert environment()["gpu"] == expected


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert environment()["commit"] is None


def test_a_commit_of_edited_sources_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    source = tmp_path / "environment.py"
    monkeypatch.setattr(module, "__file__", str(source))
    subprocess.run([*git, "init", "--quiet"], check=True)
    source.write_text("1")
    assert environment()["commit"] is None  # a package that lies in somebody's repository
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "x"], check=True)
    commit = environment()["commit"]
    assert commit is not None
    source.write_text("2")
    assert environment()["commit"] == f"{commit}-dirty"
