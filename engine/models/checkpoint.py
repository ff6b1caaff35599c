"""A checkpoint as a stream of named arrays, under Hugging Face's names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from shoal.errors import UnsupportedModel

from .config import ModelConfig

NamedArray = tuple[str, NDArray[Any]]
"""Floats of any width; bfloat16 as `ml_dtypes` has it."""

_IGNORED = re.compile(r"rotary_emb\.inv_freq$|^rope_freqs\.weight$")


def is_ignored(name: str, config: ModelConfig) -> bool:
    """Whether a checkpoint may hold a tensor that the model does not take from it."""
    tied = name == "lm_head.weight" and config.tie_word_embeddings
    return tied or _IGNORED.search(name) is not None


def unknown_tensor(name: str) -> UnsupportedModel:
    return UnsupportedModel(f"the checkpoint has a tensor {name!r} that this model has not")


def wrong_shape(name: str, shape: Iterable[int], *, expected: Iterable[int]) -> UnsupportedModel:
    return UnsupportedModel(f"tensor {name!r} has shape {list(shape)}, expected {list(expected)}")


def not_floats(name: str, dtype: object) -> UnsupportedModel:
    """For integers, which are quantized weights whose scales are not ours to guess."""
    return UnsupportedModel(f"tensor {name!r} holds {dtype}, expected a float type")


def missing_tensors(names: Iterable[str]) -> UnsupportedModel:
    missing = sorted(names)
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return UnsupportedModel(f"the checkpoint lacks {', '.join(missing[:5])}{more}")
