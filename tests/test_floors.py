"""What import-linter cannot see: what cores may import, and the one name a part is imported by."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("engine", "kernels", "router", "autoscaler", "benchmarks")
CORES = [core for part in PARTS if (core := ROOT / part / "core").is_dir()]
GROUND_FLOOR = {"shoal.errors", "shoal.clock", "shoal.openai", "shoal.metrics"}
# Standard library, but a door to the world: time is an argument, decisions are values.
IMPURE = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib",
    "queue", "random", "secrets", "selectors", "shutil", "signal", "socket", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip


def absolute_imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each absolute import, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def relative_escapes(source: str, depth: int) -> Iterator[int]:
    """Lines whose relative import climbs out of a package `depth` folders below the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            yield node.lineno


def impurities(source: str) -> list[str]:
    """What a core must not import: third parties, other parts, doors to the world."""
    return [
        f"line {line}: {name}"
        for line, name in absolute_imports(source)
        if name not in GROUND_FLOOR
        and (name.split(".")[0] in IMPURE or name.split(".")[0] not in sys.stdlib_module_names)
    ]


def test_there_is_a_core_to_check() -> None:
    assert ROOT / "engine" / "core" in CORES


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.parent.name)
def test_cores_are_pure(core: Path) -> None:
    found = []
    for file in sorted(core.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        depth = len(file.relative_to(core).parts)
        found += [f"{file.relative_to(ROOT)} {impurity}" for impurity in impurities(source)]
        found += [
            f"{file.relative_to(ROOT)} line {line}: leaves the core"
            for line in relative_escapes(source, depth)
        ]
    assert not found


@pytest.mark.parametrize(
    ("source", "is_pure"),
    [
        ("import heapq", True),
        ("from shoal.errors import ShoalError", True),
        ("def f():\n    import time", False),
        ("import os.path", False),
        ("from random import random", False),
        ("import torch", False),
        ("from shoal.engine.config import EngineConfig", False),
    ],
)
def test_the_purity_check_itself(source: str, is_pure: bool) -> None:
    assert (not impurities(source)) == is_pure


def test_parts_are_imported_through_shoal_alone() -> None:
    """From the root `import engine` works too, and would make a second copy of every class."""
    found = [
        f"{file.relative_to(ROOT)} line {line}: {name}"
        for folder in (*PARTS, "shoal", "tests")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, name in absolute_imports(file.read_text(encoding="utf-8"))
        if name.split(".")[0] in PARTS
    ]
    assert not found
