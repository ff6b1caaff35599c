"""The wheel holds every module, through links that a careless tool could have dropped."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("*.py", "py.typed", "*.html", "*.css", "*.js", "*.svg")
"""What the wheel must have all of, and no more."""
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
        for pattern in CODE
        for file in (tree / folder).rglob(pattern)
    }
    endings = tuple(pattern.lstrip("*") for pattern in CODE)
    assert {name for name in packed if name.endswith(endings)} == tracked
    assert "shoal/engine/core/config.py" in tracked
    assert "shoal/router/console/static/index.html" in tracked


@pytest.mark.parametrize(
    "module", ["shoal.router", "shoal.autoscaler", "shoal.engine.core", "shoal.cli"]
)
def test_light_parts_do_not_load_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# What each folder may import from outside: the base requirements and these extras. A folder that
# is here twice is used by parts that are installed alone. (Not here: benchmarks, some of whose
# files run in an environment of vLLM's.)
EXTRAS = (
    ("shoal", ()),
    ("shoal/admin", ("router",)),
    ("shoal/admin", ("autoscaler",)),
    ("shoal/web", ("engine",)),
    ("shoal/web", ("router",)),
    ("shoal/web", ("autoscaler",)),
    ("shoal/settings", ("router",)),
    ("shoal/settings", ("autoscaler",)),
    ("shoal/cli", ("engine", "router", "autoscaler")),  # inside commands that run these parts
    ("engine", ("engine",)),
    ("kernels", ("engine", "gpu")),
    ("router", ("router", "kubernetes", "compile")),
    ("autoscaler", ("autoscaler", "kubernetes")),
)


def canonical(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extras: tuple[str, ...]) -> set[str]:
    """Names of the distributions that an install with these extras asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    return {canonical(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def imported_packages(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in the file, its own folder's left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    siblings = {path.stem for path in file.parent.iterdir()}
    return names - sys.stdlib_module_names - siblings - {"shoal"}


def own_files(folder: str) -> Iterator[Path]:
    """Those below it that no deeper folder of `EXTRAS` has."""
    deeper = [ROOT / other for other, _ in EXTRAS if other.startswith(f"{folder}/")]
    for file in (ROOT / folder).rglob("*.py"):
        if not any(file.is_relative_to(other) for other in deeper):
            yield file


@pytest.mark.parametrize(("folder", "extras"), EXTRAS)
def test_every_import_is_a_declared_requirement(folder: str, extras: tuple[str, ...]) -> None:
    """What merely happens to be installed, because something else brings it, does not count."""
    distributions = packages_distributions()
    allowed = declared(extras)
    undeclared = {
        f"{file.relative_to(ROOT)} imports {package}"
        for file in own_files(folder)
        for package in imported_packages(file)
        if not allowed & {canonical(name) for name in distributions.get(package, [package])}
    }
    assert not undeclared
