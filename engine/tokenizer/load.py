"""`load_tokenizer`: from model files to a Tokenizer, whatever the format."""

from __future__ import annotations

import json
from pathlib import Path

from shoal.errors import UnsupportedModel

from ..sources.gguf_metadata import read_gguf_metadata
from ..sources.model_files import ModelFiles
from .gguf_tokenizer import tokenizer_from_gguf
from .hf_tokenizer import tokenizer_from_folder
from .stand_in import stand_in_tokenizer
from .tokenizer import Tokenizer


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer that comes with a model.

    Raises ModelNotFound when files are missing and UnsupportedModel, naming what is supported,
    for a kind of tokenizer Shoal does not know.
    """
    if files.format == "gguf":
        return tokenizer_from_gguf(read_gguf_metadata(files.path))
    return tokenizer_from_folder(files.path)


def load_tokenizer_or_stand_in(files: ModelFiles) -> Tokenizer:
    """The same, for random weights: a folder without a tokenizer gets one of bytes and words."""
    if files.format == "hf" and not (files.path / "tokenizer.json").is_file():
        return stand_in_tokenizer(_vocab_size(files.path / "config.json"))
    return load_tokenizer(files)


def _vocab_size(config: Path) -> int:
    try:
        vocab_size = json.loads(config.read_bytes())["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"{config} has no vocab_size: {error!r}") from error
    if not isinstance(vocab_size, int) or vocab_size < 1:
        raise UnsupportedModel(f"{config}: vocab_size is {vocab_size!r}, expected an integer")
    return vocab_size
