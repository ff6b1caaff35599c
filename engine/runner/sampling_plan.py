"""What one step asks of the sampler: tensors for the rows that need more than an argmax."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .logit_edits import LogitEdits


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRows:
    """Rows with a temperature above 0; every tensor is [num_random_rows]."""

    rows: Tensor
    """Their places among the rows that sample, int64."""
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seeds: Tensor
    """64 random or user-given bits, int64."""
    positions: Tensor
    """How many tokens the request has put out before this one, int64."""
    filtered: bool
    """Whether any of them uses top_k, top_p or min_p."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobRows:
    """Rows that report log-probabilities, and how many of the best tokens each wants."""

    rows: list[int]
    num_top: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """A batch of plain greedy requests is a plan of three times None."""

    random: RandomRows | None = None
    edits: LogitEdits | None = None
    logprobs: LogprobRows | None = None
