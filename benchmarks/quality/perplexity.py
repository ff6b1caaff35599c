"""How well a model on the CPU kernels predicts a text, in windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cpu.driven_model import DrivenModel, Part, Tokens

CHUNK = 256
"""Tokens of a step."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of the tokens of a text, window by window."""

    logprobs: NDArray[np.float32]
    """Of each token that has one before it in its window."""
    best: NDArray[np.int32]
    """The token that the model holds likeliest there."""

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability of a token."""
        return float(np.exp(-self.logprobs.mean(dtype=np.float64)))

    def agreement(self, other: Prediction) -> float:
        """Share of the places where both hold the same token likeliest."""
        return float((self.best == other.best).mean())


def predict(
    model: DrivenModel, windows: list[Tokens]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Log-probabilities and best tokens of each window; the KV cache holds one at a time."""
    for window in windows:
        logprobs, best = [], []
        for begin in range(0, len(window) - 1, CHUNK):
            tokens = window[begin : min(begin + CHUNK, len(window) - 1)]
            model.step([Part(tokens, begin)])
            targets = window[begin + 1 : begin + 1 + len(tokens)].astype(np.int32)
            ids, values, _ = model.model.logprobs(np.arange(len(tokens)), targets, 1)
            logprobs.append(values[:, 0])
            best.append(ids[:, 1])
        yield np.concatenate(logprobs), np.concatenate(best)


def windows_of(token_ids: list[int], *, num_tokens: int, length: int) -> list[Tokens]:
    """The first `num_tokens` of a text in windows of equal length.

    Raises ValueError when the text is shorter.
    """
    if len(token_ids) < num_tokens:
        raise ValueError(f"the text has {len(token_ids)} tokens, {num_tokens} were asked for")
    tokens = np.array(token_ids[: num_tokens // length * length], np.int64)
    return list(tokens.reshape(-1, length))
