"""Logits to token ids.

Order: log-probabilities are taken from the raw logits; then edits (penalties, bias, min_tokens),
temperature, filters (min_p, top_k, top_p) and the draw. Rows without a temperature take the
argmax. Logits that are not numbers count as impossible tokens and never stop the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shoal.kernels.sample import sample_tokens

from ..core.output import TokenLogprobs
from .logit_edits import apply_edits_
from .logprobs import token_logprobs
from .sampling_plan import SamplerOutput, SamplingPlan


def sample(logits: Tensor, plan: SamplingPlan) -> SamplerOutput:
    """Choose a token per row of `logits` [num_rows, vocab_size] float32, which it may overwrite."""
    reporting = (plan.num_logprobs >= 0).nonzero()[0].tolist()
    raw = logits[reporting] if reporting else None
    if plan.edits is not None:
        apply_edits_(logits, plan.edits)

    def column(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(logits.device)

    broken = torch.empty(len(plan), dtype=torch.bool, device=logits.device)
    token_ids = sample_tokens(
        logits,
        temperature=column(plan.temperature),
        top_k=column(plan.top_k),
        top_p=column(plan.top_p),
        min_p=column(plan.min_p),
        seeds=column(plan.seeds),
        positions=column(plan.positions),
        broken=broken,
        none_filtered=not ((plan.top_k > 0) | (plan.top_p < 1.0) | (plan.min_p > 0.0)).any(),
    )
    logprobs: dict[int, TokenLogprobs] = {}
    if raw is not None:
        num_top = plan.num_logprobs[reporting].tolist()
        reports = token_logprobs(raw, token_ids[reporting], num_top=num_top)
        logprobs = dict(zip(reporting, reports, strict=True))
    broken_rows: list[int] = broken.nonzero().squeeze(1).tolist()
    return SamplerOutput(token_ids.cpu().numpy(), logprobs, broken_rows)
