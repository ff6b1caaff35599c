"""Log-probabilities of the model itself: log_softmax of its logits as they left the model.

Temperature, penalties, biases and filters do not show in them (vLLM's default, "raw logprobs").
"""

from __future__ import annotations

from torch import Tensor

from shoal.kernels.token_logprobs import token_logprobs as logprob_tensors

from ..core.output import TokenLogprobs


def token_logprobs(logits: Tensor, token_ids: Tensor, *, num_top: list[int]) -> list[TokenLogprobs]:
    """Report the given token of each row, its rank, and the row's `num_top` best tokens.

    logits: [num_rows, vocab_size] float32; token_ids: [num_rows] int64; num_top: per row, 0 gives
    the given token alone. Rank 1 means that no token is more likely.
    """
    found = logprob_tensors(logits, token_ids, num_top=max(num_top))
    ids, logprobs = found.token_ids.tolist(), found.logprobs.tolist()
    return [
        TokenLogprobs(token_ids=ids[i][: num + 1], logprobs=logprobs[i][: num + 1], rank=rank)
        for i, (num, rank) in enumerate(zip(num_top, found.ranks.tolist(), strict=True))
    ]
