"""How likely tokens are: log_softmax of chosen and of best tokens, and ranks, without a sort."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .dispatch import uses_triton
from .vocab_rows import count_above

MAX_TOP = 64
"""Best tokens that the Triton body can report; OpenAI's API asks for at most 20."""


class TokenLogprobTensors(NamedTuple):
    """What `token_logprobs` found, a line for each row that was asked about."""

    token_ids: Tensor
    """[num_rows, 1 + num_top] int64: the given token, then the best ones in descending order.
    Which of those that tie come first, or at all, is left open; on a GPU the lower ids do."""
    logprobs: Tensor
    """[num_rows, 1 + num_top] fp32."""
    ranks: Tensor
    """[num_rows] int64: how many tokens are likelier than the given one, and 1."""
    log_z: Tensor
    """[num_rows] fp32: logsumexp of the row."""


def token_logprobs(logits: Tensor, token_ids: Tensor, *, num_top: int) -> TokenLogprobTensors:
    """logits[token] - logsumexp(logits) of the given token and the `num_top` best of each row.

    logits: [num_rows, vocab_size], fp32, bf16 or fp16; token_ids: [num_rows] int64, inside the
    vocabulary. num_top above the vocabulary's size counts as that size. Rows that `sample_tokens`
    calls broken have NaN as log_z and log-probabilities, and ids and ranks that mean nothing. On a
    GPU nothing waits for the host.
    """
    if logits.dim() != 2 or token_ids.shape != (logits.shape[0],) or logits.shape[1] == 0:
        raise ValueError(
            f"logits {list(logits.shape)} and token_ids {list(token_ids.shape)} must be"
            " [num_rows, vocab_size] and [num_rows]"
        )
    if token_ids.dtype != torch.int64:
        raise ValueError(f"token_ids are {token_ids.dtype}, but must be int64")
    if num_top < 0:
        raise ValueError(f"num_top is {num_top}, but must be 0 or more")
    num_top = min(num_top, logits.shape[1])
    if not uses_triton(logits) or num_top > MAX_TOP:
        return token_logprobs_torch(logits, token_ids, num_top=num_top)
    from .triton.token_logprobs import token_logprobs_triton

    return token_logprobs_triton(logits, token_ids, num_top=num_top)


def token_logprobs_torch(logits: Tensor, token_ids: Tensor, *, num_top: int) -> TokenLogprobTensors:
    """The meaning of `token_logprobs`, in torch."""
    logits = logits.float()
    log_z = logits.logsumexp(dim=-1, keepdim=True)
    log_z = torch.where(log_z.isfinite(), log_z, torch.nan)
    chosen = logits.gather(1, token_ids.unsqueeze(1))
    ranks = count_above(logits, chosen.squeeze(1)) + 1
    top = logits.topk(num_top, dim=-1)
    ids = torch.cat([token_ids.unsqueeze(1), top.indices], dim=1)
    values = torch.cat([chosen, top.values], dim=1)
    return TokenLogprobTensors(ids, values - log_z, ranks, log_z.squeeze(1))
