"""Log-probabilities of the model itself: log_softmax of its logits as they left the model.

Temperature, penalties, biases and filters do not show in them (vLLM's default, "raw logprobs").
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.output import TokenLogprobs
from .row_ops import count_above


def token_logprobs(logits: Tensor, token_ids: Tensor, *, num_top: list[int]) -> list[TokenLogprobs]:
    """Report the given token of each row, its rank, and the row's `num_top` best tokens.

    logits: [num_rows, vocab_size] float32; token_ids: [num_rows] int64; num_top: per row, 0 gives
    the given token alone. Rank 1 means that no token is more likely.
    """
    log_z = logits.logsumexp(dim=-1, keepdim=True)
    chosen = logits.gather(1, token_ids.unsqueeze(1))
    ranks = count_above(logits, chosen.squeeze(1)) + 1
    top = logits.topk(min(max(num_top), logits.shape[1]), dim=-1)
    ids = torch.cat([token_ids.unsqueeze(1), top.indices], dim=1).tolist()
    logprobs = (torch.cat([chosen, top.values], dim=1) - log_z).tolist()
    return [
        TokenLogprobs(token_ids=ids[i][: num + 1], logprobs=logprobs[i][: num + 1], rank=rank)
        for i, (num, rank) in enumerate(zip(num_top, ranks.tolist(), strict=True))
    ]
