"""Logits to token ids.

Order: log-probabilities are taken from the raw logits; then edits (penalties, bias, min_tokens),
temperature, filters (min_p, top_k, top_p) and the draw. Rows without a temperature take the
argmax. Logits that are not numbers count as impossible tokens and never stop the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.output import TokenLogprobs
from .logit_edits import apply_edits_
from .logprobs import token_logprobs
from .random_choice import choose_tokens, padded_size
from .random_rows import RandomRows, random_rows
from .row_ops import row_argmax
from .sampling_plan import SamplerOutput, SamplingPlan
from .token_filter import filter_weights_


def sample(logits: Tensor, plan: SamplingPlan) -> SamplerOutput:
    """Choose a token per row of `logits` [num_rows, vocab_size] float32, which it may overwrite."""
    reporting = (plan.num_logprobs >= 0).nonzero()[0].tolist()
    raw = logits[reporting] if reporting else None
    if plan.edits is not None:
        apply_edits_(logits, plan.edits)
    token_ids, broken_rows = _argmax(logits)
    random = random_rows(plan, logits.device)
    if random is not None:
        token_ids[random.rows] = _draw(logits, token_ids, random)
    logprobs: dict[int, TokenLogprobs] = {}
    if raw is not None:
        num_top = plan.num_logprobs[reporting].tolist()
        reports = token_logprobs(raw, token_ids[reporting], num_top=num_top)
        logprobs = dict(zip(reporting, reports, strict=True))
    return SamplerOutput(token_ids.cpu().numpy(), logprobs, broken_rows)


def _argmax(logits: Tensor) -> tuple[Tensor, list[int]]:
    """The best token of each row, after repair of rows that have no finite maximum."""
    token_ids = row_argmax(logits)
    # NaN wins every argmax, so the maxima tell of any NaN without another pass.
    broken = ~logits.gather(1, token_ids.unsqueeze(1)).squeeze(1).isfinite()
    broken_rows: list[int] = broken.nonzero().squeeze(1).tolist()
    if broken_rows:
        lowest, highest = torch.finfo(logits.dtype).min, torch.finfo(logits.dtype).max
        logits[broken] = logits[broken].nan_to_num(nan=lowest, neginf=lowest, posinf=highest)
        token_ids[broken] = row_argmax(logits[broken])
    return token_ids, broken_rows


def _draw(logits: Tensor, best_token_ids: Tensor, random: RandomRows) -> Tensor:
    """Draw a token for each random row from softmax(logits / temperature), filtered."""
    num_rows, vocab_size = random.rows.shape[0], logits.shape[1]
    if num_rows < logits.shape[0]:
        logits, best_token_ids = logits[random.rows], best_token_ids[random.rows]
    best = logits.gather(1, best_token_ids.unsqueeze(1))
    weights = logits.new_zeros(num_rows, padded_size(vocab_size))
    # Subtract before dividing: a tiny temperature then gives 0 and -inf, never inf - inf.
    scores = weights[:, :vocab_size]
    torch.sub(logits, best, out=scores)
    scores.div_(random.temperature.unsqueeze(1)).exp_()
    if random.filtered:
        filter_weights_(weights, top_k=random.top_k, top_p=random.top_p, min_p=random.min_p)
    return choose_tokens(weights, random.seeds, random.positions)
