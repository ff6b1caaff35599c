"""Brings the edits of a step to the logits' device in one copy, and applies them there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shoal.kernels.logit_edits import EditBatch, edit_logits_

from .sampling_plan import LogitEdits


def apply_edits_(logits: Tensor, edits: LogitEdits) -> None:
    """Edit `logits` [num_rows, vocab_size] fp32 in place; on a GPU nothing waits for it."""
    edit_logits_(logits, edit_batch(edits, logits.device))


def edit_batch(edits: LogitEdits, device: torch.device) -> EditBatch:
    """The entries of all rules on a device.

    torch keeps pinned memory until the copy from it has run, and hands it out again after that.
    """
    rules = (edits.repetition, edits.presence, edits.frequency, edits.added)
    sizes = [0 if rule is None else len(rule.rows) for rule in rules]
    ends = np.cumsum(sizes).tolist()
    packed = torch.empty(3, ends[-1], dtype=torch.int32, pin_memory=device.type == "cuda")
    rows, token_ids, values = packed.numpy()
    for rule, size, end in zip(rules, sizes, ends, strict=True):
        if rule is not None:
            rows[end - size : end] = rule.rows
            token_ids[end - size : end] = rule.token_ids
            values[end - size : end].view(np.float32)[:] = rule.values
    there = packed.to(device, non_blocking=True)
    return EditBatch(
        rows=there[0], token_ids=there[1], values=there[2].view(torch.float32), ends=tuple(ends)
    )
