"""What one step asks of the sampler, whichever computes it: columns of numbers, a row a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.output import TokenLogprobs

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
LongInts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of the matrix of logits with a number for each; in ascending order of rows."""

    rows: Ints
    token_ids: Ints
    values: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEdits:
    """Changes to single logits before a token is chosen, in the order they are applied.

    They touch few entries, so each is a list; no matrix of token counts is ever made. None: no row
    asks for it.
    """

    repetition: Entries | None = None
    """Prompt and output tokens, each once, with `repetition_penalty`, as CTRL (Keskar et al., 2019)
    and Hugging Face define it: a positive logit is divided by it, a negative one multiplied."""
    presence: Entries | None = None
    """Output tokens, each once, with `presence_penalty`, which is subtracted."""
    frequency: Entries | None = None
    """Output tokens, every occurrence, with `frequency_penalty`: subtracted for each."""
    added: Entries | None = None
    """`logit_bias`, and -inf for stop tokens of rows that are short of their `min_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """Every array is [num_rows]."""

    temperature: Floats
    """0: the best token, and none of the next three counts."""
    top_k: Ints
    """0: off."""
    top_p: Floats
    """1: off."""
    min_p: Floats
    """0: off."""
    seeds: LongInts
    """64 random or user-given bits."""
    positions: LongInts
    """How many tokens the request has put out before this one."""
    num_logprobs: Ints
    """Best tokens to report beside the chosen one; NO_REPORT: nothing."""
    edits: LogitEdits | None = None

    def __len__(self) -> int:
        return len(self.temperature)


NO_REPORT = -1


@dataclass(frozen=True, slots=True)
class SamplerOutput:
    """What was chosen for the rows of one step."""

    token_ids: LongInts
    """[num_rows]."""
    logprobs: dict[int, TokenLogprobs]
    """By row, of the rows that asked."""
    broken_rows: list[int]
    """Rows whose logits hold NaN or +inf, or nothing but -inf: the model failed there."""
