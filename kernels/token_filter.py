"""top_k, top_p and min_p: zero the weights of the tokens that a row must not choose.

Each rule keeps the tokens whose weight reaches a cutoff. A cutoff, unlike a list of kept ids,
does not depend on how a sort broke ties or on what other rows asked for; tokens that tie with
the last one kept are kept too. The rules apply in vLLM's order, min_p, top_k, top_p, so top_p
is a share of the mass that the others left over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .vocab_rows import largest_values, zero_below_

_NUM_CANDIDATES = 1024
"""Best tokens looked at before the whole vocabulary is sorted: a top_p of 0.95 mostly needs a few
dozen, and finding them costs a seventh of the sort."""


def filter_weights_(weights: Tensor, *, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> None:
    """Apply the three rules to `weights` in place.

    weights: [num_rows, num_tokens] float32, probabilities times a factor that makes the best of
    each row 1. top_k (0: off) int64, top_p (1: off) and min_p (0: off) float32: [num_rows].
    """
    num_tokens = weights.shape[1]
    zero_below_(weights, min_p)
    top_k = torch.where(top_k == 0, num_tokens, top_k).clamp(max=num_tokens)
    pending = ((top_k < num_tokens) | (top_p < 1.0)).nonzero().squeeze(1)
    if pending.numel() == 0:
        return
    cutoffs = torch.zeros_like(min_p)
    total = torch.where(top_k == num_tokens, weights.sum(dim=1).double(), torch.inf)
    for num_candidates in (min(_NUM_CANDIDATES, num_tokens), num_tokens):
        best = largest_values(weights[pending], num_candidates)
        cutoff, final = _cutoffs(best, total[pending], top_k=top_k[pending], top_p=top_p[pending])
        cutoffs[pending] = cutoff
        pending = pending[~final]
        if pending.numel() == 0:
            break
    zero_below_(weights, cutoffs)


def _cutoffs(best: Tensor, total: Tensor, *, top_k: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """The cutoff of each row as far as its best weights tell, and whether they tell all.

    best: [num_rows, num_candidates], descending; total: [num_rows], the weight of all tokens
    that top_k leaves, or inf where only the best tokens can tell it.
    """
    num_candidates = best.shape[1]
    in_top_k = torch.arange(num_candidates, device=best.device) < top_k.unsqueeze(1)
    cumulative = (best.double() * in_top_k).cumsum(dim=1)
    seen = cumulative[:, -1]
    holds_top_k = top_k <= num_candidates
    needed = top_p * torch.where(holds_top_k, seen, total)
    needed[top_p == 1.0] = torch.inf  # all, even those too light to change the sum
    # A token is kept while those before it have not reached the needed mass.
    before = cumulative.roll(1, dims=1)
    before[:, 0] = 0.0
    num_kept = (in_top_k & (before < needed.unsqueeze(1))).sum(dim=1).clamp_(min=1)
    cutoff = best.gather(1, num_kept.unsqueeze(1) - 1).squeeze(1)
    return cutoff, holds_top_k | (needed <= seen)
