from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.errors import ConfigError
from shoal.router.compiled import __main__ as build
from shoal.router.compiled.finder import use_compiled
from shoal.router.compiled.modules import MODULES, compiled_set, source


def test_every_module_has_a_source() -> None:
    assert [module for module in MODULES if not source(module).is_file()] == []


def test_no_compiled_module_has_a_struct() -> None:
    """mypyc makes classes of its own of them, which msgspec then cannot fill."""
    with_structs = [module for module in MODULES if "msgspec.Struct" in source(module).read_text()]
    assert with_structs == []


def test_no_compiled_set_is_no_error(tmp_path: Path) -> None:
    before = list(sys.meta_path)
    assert not use_compiled(tmp_path)
    assert sys.meta_path == before


def test_a_set_is_valid_for_these_sources_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shoal"
    (package / "router").mkdir(parents=True)
    file = package / "router" / "exchange.py"
    file.write_text("a = 1\n")
    monkeypatch.setattr("shoal.router.compiled.modules.PACKAGE", package)
    first = compiled_set(tmp_path)
    assert compiled_set(tmp_path) == first
    file.write_text("a = 2\n")
    assert compiled_set(tmp_path) != first


def test_what_cannot_be_compiled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shoal"
    (package / "router").mkdir(parents=True)
    (package / "router" / "wrong.py").write_text("def f() -> int:\n    return 'a'\n")
    monkeypatch.setattr("shoal.router.compiled.modules.PACKAGE", package)
    monkeypatch.setattr(build, "PACKAGE", package)
    monkeypatch.setattr(build, "MODULES", ("shoal.router.wrong",))
    with pytest.raises(ConfigError, match="Incompatible return value"):
        build.compile_modules(tmp_path / "cache")
    assert list((tmp_path / "cache" / "router").iterdir()) == []


def test_older_sets_go_and_builds_under_way_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "router"
    for name in ("0123456789abcdef", "build-other", "build-stale"):
        (folder / name).mkdir(parents=True)
    os.utime(folder / "build-stale", (0, 0))
    monkeypatch.setattr(build, "_build", lambda scratch, out: out.mkdir())
    build.compile_modules(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "build-other", compiled_set(tmp_path).name,
    }  # fmt: skip


def test_a_compiled_module_takes_the_place_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two small ones, so that it takes seconds; a process of its own imports them."""
    modules = ("shoal.router.core.window_count", "shoal.router.core.retry_budget")
    monkeypatch.setattr(build, "MODULES", modules)
    folder = build.compile_modules(tmp_path)
    assert build.compile_modules(tmp_path) == folder
    program = f"""
from pathlib import Path
from shoal.router.compiled import finder
finder.MODULES = {modules!r}
assert finder.use_compiled(Path({str(tmp_path)!r}))
from shoal.router.core import circuit_breaker, retry_budget, window_count
files = [module.__file__.split(".")[-1] for module in (window_count, retry_budget, circuit_breaker)]
budget = retry_budget.RetryBudget(0.0, 1)
print(*files, budget.try_retry(1.0), budget.try_retry(1.0))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["so", "so", "py", "True", "False"], done.stderr
