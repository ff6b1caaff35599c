"""A `.gguf` file on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from shoal.errors import ModelNotFound, UnsupportedModel

_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def check_gguf_file(path: Path) -> None:
    """Raises ModelNotFound or UnsupportedModel unless `path` is one whole GGUF file."""
    if not path.is_file():
        raise ModelNotFound(f"no GGUF file at {path}")
    if (part := _PART.search(path.name)) and int(part[1]) > 1:
        raise UnsupportedModel(
            f"{path.name} is one of {int(part[1])} parts; GGUF files in parts are not supported: "
            "merge them with llama.cpp's `llama-gguf-split --merge`"
        )
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise UnsupportedModel(f"{path} is not a GGUF file: it starts with {magic!r}")
