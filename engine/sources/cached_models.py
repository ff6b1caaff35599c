"""What has been pulled already, for `shoal models list`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shoal.cache_home import cache_home

from .hub_model import cached_snapshots
from .model_files import ModelFiles
from .wheel_model import cached_wheels


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A pulled model and what it takes on the disk."""

    files: ModelFiles
    num_bytes: int


def list_cached(cache_dir: Path | None = None) -> list[CachedModel]:
    """Every whole model that `resolve` with the same `cache_dir` would find without pulling."""
    return [CachedModel(files, _num_bytes(files.path)) for files in _cached(cache_dir)]


def _cached(cache_dir: Path | None) -> Iterator[ModelFiles]:
    yield from cached_wheels(cache_dir or cache_home())
    yield from cached_snapshots(cache_dir)


def _num_bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
