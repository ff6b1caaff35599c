"""Chooses a token id from each row of logits: temperature, top-k, top-p, min-p, one seed a row."""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton
from .random_choice import choose_tokens, padded_size
from .token_filter import filter_weights_
from .vocab_rows import row_argmax

LOGIT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def sample_tokens(
    logits: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    positions: Tensor,
    broken: Tensor | None = None,
    all_greedy: bool = False,
    none_filtered: bool = False,
) -> Tensor:
    """Draw from softmax(logits / temperature) of each row, filtered; the argmax where it is 0.

    logits: [num_rows, vocab_size], fp32, bf16 or fp16, left as they are. [num_rows] each:
    temperature fp32; top_k int32 or int64 (0: off); top_p (1: off) and min_p (0: off) fp32; seeds
    and positions int64. Returns [num_rows] int64, and sets `broken` [num_rows] bool, where given:
    rows whose logits hold NaN or +inf, or nothing but -inf. In such a row NaN and -inf count as the
    lowest finite number and +inf as the highest, so a token comes out all the same.

    The rules are those of `token_filter` (min_p, top_k, top_p; what ties with the last token kept
    is kept), the draw is that of `random_choice`: a row's token depends on its own logits,
    parameters, seed and position alone. `all_greedy` and `none_filtered` are what the caller knows
    of the parameters without looking at the device: they save work and change nothing.

    On a GPU nothing waits for the host and no shape depends on values, so a CUDA graph can hold it.
    """
    num_rows = _checked_num_rows(logits)
    _check_columns(
        num_rows,
        temperature=(temperature, (torch.float32,)),
        top_k=(top_k, (torch.int32, torch.int64)),
        top_p=(top_p, (torch.float32,)),
        min_p=(min_p, (torch.float32,)),
        seeds=(seeds, (torch.int64,)),
        positions=(positions, (torch.int64,)),
    )
    if broken is None:
        broken = torch.empty(num_rows, dtype=torch.bool, device=logits.device)
    _check_columns(num_rows, broken=(broken, (torch.bool,)))
    columns = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seeds": seeds,
        "positions": positions,
    }
    if not uses_triton(logits):
        return sample_tokens_torch(logits, **columns, broken=broken, none_filtered=none_filtered)
    from .triton.sample import sample_tokens_triton

    return sample_tokens_triton(
        logits, **columns, broken=broken, all_greedy=all_greedy, none_filtered=none_filtered
    )


def sample_tokens_torch(
    logits: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    positions: Tensor,
    broken: Tensor,
    none_filtered: bool = False,
) -> Tensor:
    """The meaning of `sample_tokens`, in torch."""
    logits = logits.float()
    logits, token_ids = _argmax(logits, broken)
    rows = temperature.nonzero().squeeze(1)
    if rows.numel() == 0:
        return token_ids
    scores = logits if len(rows) == len(logits) else logits[rows]
    best = scores.gather(1, token_ids[rows].unsqueeze(1))
    weights = scores.new_zeros(len(rows), padded_size(logits.shape[1]))
    # Subtract before dividing: a tiny temperature then gives 0 and -inf, never inf - inf.
    in_vocabulary = weights[:, : logits.shape[1]]
    torch.sub(scores, best, out=in_vocabulary)
    in_vocabulary.div_(temperature[rows].unsqueeze(1)).exp_()
    if not none_filtered:
        filter_weights_(weights, top_k=top_k[rows].long(), top_p=top_p[rows], min_p=min_p[rows])
    token_ids[rows] = choose_tokens(weights, seeds[rows], positions[rows])
    return token_ids


def _argmax(logits: Tensor, broken: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row, after repair of a copy of the rows that `broken` will name."""
    token_ids = row_argmax(logits)
    # NaN wins every argmax, so the maxima tell of any NaN without another pass.
    broken.copy_(~logits.gather(1, token_ids.unsqueeze(1)).squeeze(1).isfinite())
    if broken.any():
        lowest, highest = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
        logits = logits.clone()
        logits[broken] = logits[broken].nan_to_num(nan=lowest, neginf=lowest, posinf=highest)
        token_ids[broken] = row_argmax(logits[broken])
    return logits, token_ids


def _checked_num_rows(logits: Tensor) -> int:
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(
            f"logits are {list(logits.shape)}, but must be [num_rows, vocab_size], not empty in the"
            " second"
        )
    if logits.dtype not in LOGIT_DTYPES:
        raise ValueError(f"logits are {logits.dtype}, but must be one of {LOGIT_DTYPES}")
    return logits.shape[0]


def _check_columns(num_rows: int, **columns: tuple[Tensor, tuple[torch.dtype, ...]]) -> None:
    for name, (column, dtypes) in columns.items():
        if column.shape != (num_rows,) or column.dtype not in dtypes or not column.is_contiguous():
            raise ValueError(
                f"{name} is {list(column.shape)} {column.dtype}, but must be [{num_rows}],"
                f" contiguous, and one of {dtypes}: one entry for each row of the logits"
            )
