"""The wheel holds every module, through links that a careless tool could have dropped."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("engine", "kernels", "router", "autoscaler", "benchmarks")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def copy_tracked_files(target: Path) -> None:
    """The tree as a fresh clone has it: no untracked file, no leftovers of an earlier build."""
    for name in git("ls-files").splitlines():
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.exists():  # else: deleted here, not yet committed
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy, follow_symlinks=False)


def packaged_name(name: str) -> str:
    """Where a file of the tree belongs in the wheel: engine/x.py becomes shoal/engine/x.py."""
    return name if name.startswith("shoal/") else f"shoal/{name}"


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_committed_relative_link(part: str) -> None:
    link = ROOT / "shoal" / part
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{part}"
    assert git("ls-files", "--stage", f"shoal/{part}").startswith("120000 ")


def test_the_wheel_holds_exactly_the_tracked_modules(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    copy_tracked_files(tree)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tree],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("shoal/")}

    tracked = {
        packaged_name(str(file.relative_to(tree)))
        for folder in ("shoal", *PARTS)
        for pattern in ("*.py", "py.typed")
        for file in (tree / folder).rglob(pattern)
    }
    assert {name for name in packed if name.endswith((".py", "py.typed"))} == tracked
    assert "shoal/engine/core/config.py" in tracked


@pytest.mark.parametrize(
    "module", ["shoal.router", "shoal.autoscaler", "shoal.engine.core", "shoal.cli"]
)
def test_light_parts_do_not_load_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
