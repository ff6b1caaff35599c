"""A model whose files are on this disk, ready to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What `resolve` hands to everything that reads a model."""

    name: str
    """Short name to serve it under, e.g. "SmolLM2-135M-Instruct.Q4_1"."""
    path: Path
    """The folder (format "hf") or the file (format "gguf")."""
    format: Literal["hf", "gguf"]
    source: str
    """What `resolve` was asked for, with the version or revision it settled on."""
