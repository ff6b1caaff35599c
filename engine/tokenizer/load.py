"""`load_tokenizer`: from model files to a Tokenizer, whatever the format."""

from __future__ import annotations

from ..sources.gguf_metadata import read_gguf_metadata
from ..sources.model_files import ModelFiles
from .gguf_tokenizer import tokenizer_from_gguf
from .hf_tokenizer import tokenizer_from_folder
from .tokenizer import Tokenizer


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer that comes with a model.

    Raises ModelNotFound when files are missing and UnsupportedModel, naming what is supported,
    for a kind of tokenizer Shoal does not know.
    """
    if files.format == "gguf":
        return tokenizer_from_gguf(read_gguf_metadata(files.path))
    return tokenizer_from_folder(files.path)
