"""The rows of a step that draw at random, as tensors on the device of their logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sampling_plan import SamplingPlan


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
    positions: Tensor
    filtered: bool
    """Whether any of them uses top_k, top_p or min_p."""


def random_rows(plan: SamplingPlan, device: torch.device) -> RandomRows | None:
    """Those of a plan; None when all are greedy."""
    places = plan.temperature.nonzero()[0]
    if not places.size:
        return None
    top_k, top_p, min_p = plan.top_k[places], plan.top_p[places], plan.min_p[places]

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return RandomRows(
        rows=tensor(places),
        temperature=tensor(plan.temperature[places]),
        top_k=tensor(top_k.astype(np.int64)),
        top_p=tensor(top_p),
        min_p=tensor(min_p),
        seeds=tensor(plan.seeds[places]),
        positions=tensor(plan.positions[places]),
        filtered=bool(((top_k > 0) | (top_p < 1.0) | (min_p > 0.0)).any()),
    )
