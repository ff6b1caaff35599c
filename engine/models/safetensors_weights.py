"""Weights from a Hugging Face folder: one safetensors file, or shards with an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from shoal.errors import ModelNotFound, UnsupportedModel

from .checkpoint import NamedArray

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"


def shards(folder: Path) -> list[Path]:
    """The files that hold the weights. Raises ModelNotFound naming what is missing."""
    index = folder / INDEX
    if index.exists():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsupportedModel(f"{index} has no map of tensors to files: {error!r}") from error
        if strays := sorted(name for name in names if Path(name).name != name):
            raise UnsupportedModel(f"{index} points outside its folder: {strays[0]!r}")
        found = [folder / name for name in sorted(names)]
    elif (folder / WHOLE).exists():
        found = [folder / WHOLE]  # others beside it are adapters, or the same weights once more
    else:
        found = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in found if not path.exists()]
    if missing or not found:
        what = ", ".join(missing) or "*.safetensors"
        raise ModelNotFound(f"{folder} lacks {what}")
    return found


def count(folder: Path) -> int:
    """Number of tensors in all shards."""
    total = 0
    for path in shards(folder):
        with _opened(path, "numpy") as file:
            total += len(file.keys())
    return total


def tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Torch tensor by torch tensor over a memory map: nothing is held that is not being copied."""
    return _values(folder, "pt")


def arrays(folder: Path) -> Iterator[NamedArray]:
    """The same without torch."""
    import ml_dtypes  # noqa: F401  (teaches numpy the name "bfloat16")

    return _values(folder, "numpy")


def _values(folder: Path, framework: Literal["pt", "numpy"]) -> Iterator[tuple[str, Any]]:
    for path in shards(folder):
        with _opened(path, framework) as file:
            for name in file.keys():  # noqa: SIM118  (not a dict)
                yield name, file.get_tensor(name)


def _opened(path: Path, framework: Literal["pt", "numpy"]) -> safe_open:
    try:
        return safe_open(path, framework=framework)
    except SafetensorError as error:
        raise UnsupportedModel(f"{path} is not a usable safetensors file: {error}") from error
