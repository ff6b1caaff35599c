"""Applies the edits of a step to the logits: one scatter a rule."""

from __future__ import annotations

import torch
from torch import Tensor

from .sampling_plan import Entries, LogitEdits


def apply_edits_(logits: Tensor, edits: LogitEdits) -> None:
    """Edit `logits` [num_rows, vocab_size] in place."""
    if edits.repetition is not None:
        rows, token_ids, values = _tensors(edits.repetition, logits.device)
        old = logits[rows, token_ids]
        logits[rows, token_ids] = torch.where(old > 0, old / values, old * values)
    for subtracted in (edits.presence, edits.frequency):
        if subtracted is not None:
            rows, token_ids, values = _tensors(subtracted, logits.device)
            logits.index_put_((rows, token_ids), -values, accumulate=True)
    if edits.added is not None:
        rows, token_ids, values = _tensors(edits.added, logits.device)
        logits.index_put_((rows, token_ids), values, accumulate=True)


def _tensors(entries: Entries, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(entries.rows).to(device, torch.int64),
        torch.from_numpy(entries.token_ids).to(device, torch.int64),
        torch.from_numpy(entries.values).to(device),
    )
