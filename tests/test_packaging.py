"""The wheel holds every module, through links that a careless tool could have dropped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("engine", "kernels", "router", "autoscaler", "benchmarks")


def tracked_modules() -> set[str]:
    """Names that the tracked files should have in the wheel: engine/x.py is shoal/engine/x.py."""
    listing = subprocess.run(
        ["git", "ls-files", *PARTS, "shoal"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        name if name.startswith("shoal/") else f"shoal/{name}"
        for name in listing.stdout.splitlines()
        if name.endswith((".py", "py.typed")) and (ROOT / name).exists()
    }


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_relative_link(part: str) -> None:
    link = ROOT / "shoal" / part
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{part}"
    entry = subprocess.run(
        ["git", "ls-files", "--stage", f"shoal/{part}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert entry.stdout.startswith("120000 ")


def test_the_wheel_holds_every_tracked_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    # A build folder outside the tree: setuptools would pack what an earlier build left in ./build.
    command += [f"--config-setting=--build-option=build --build-base={tmp_path / 'build'}"]
    built = subprocess.run(
        [*command, "--outdir", tmp_path, ROOT], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("shoal/")}
    missing = tracked_modules() - packed
    assert not missing
    assert "shoal/engine/core/scheduler.py" in packed


@pytest.mark.parametrize(
    "module", ["shoal.router", "shoal.autoscaler", "shoal.engine.core", "shoal.cli"]
)
def test_light_parts_do_not_load_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
