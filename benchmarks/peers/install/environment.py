"""A virtual environment that remembers what was installed into it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .steps import Steps

STAMP = ".installed"


def is_installed(folder: Path, wanted: Sequence[str]) -> bool:
    """Whether an earlier installation of exactly `wanted` came to its end."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _text(wanted)


def mark_installed(folder: Path, wanted: Sequence[str]) -> None:
    (folder / STAMP).write_text(_text(wanted), encoding="utf-8")


def make(folder: Path, steps: Steps) -> list[str | Path]:
    """Make the environment, or keep the one that is there; returns the words that call its pip."""
    python = folder / "bin" / "python"
    if not python.exists():
        steps.run("making the environment", [sys.executable, "-m", "venv", folder])
    return [python, "-m", "pip", "--disable-pip-version-check"]


def _text(wanted: Sequence[str]) -> str:
    return "".join(f"{requirement}\n" for requirement in wanted)
