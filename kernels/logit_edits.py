"""Changes of single logits before a token is chosen: penalties, biases, forbidden tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .dispatch import uses_triton


@dataclass(frozen=True, slots=True, kw_only=True)
class EditBatch:
    """Entries of the matrix of logits with a number for each, the rules one after another.

    All entries of a rule lie together, so that they reach the device in one copy.
    """

    rows: Tensor
    """[num_entries] int32."""
    token_ids: Tensor
    """[num_entries] int32."""
    values: Tensor
    """[num_entries] fp32."""
    ends: tuple[int, int, int, int]
    """Where the entries of each rule end: repetition, presence, frequency, added."""

    def __post_init__(self) -> None:
        num_entries = self.values.shape[0]
        for name in ("rows", "token_ids", "values"):
            column, dtype = getattr(self, name), torch.float32 if name == "values" else torch.int32
            if column.shape != (num_entries,) or column.dtype != dtype:
                raise ValueError(
                    f"{name} is {list(column.shape)} {column.dtype}, but must be [{num_entries}]"
                    f" {dtype}: one for each entry"
                )
        if self.ends[-1] != num_entries or list(self.ends) != sorted(self.ends):
            raise ValueError(f"ends {self.ends} must ascend to the {num_entries} entries")


def edit_logits_(logits: Tensor, edits: EditBatch) -> None:
    """Edit `logits` [num_rows, vocab_size] fp32 in place, one rule after the other.

    repetition: x / value where x is positive, x * value elsewhere (CTRL; Keskar et al., 2019); an
    entry may stand there once. presence and frequency: x - value, for each time an entry is named.
    added: x + value. What one rule subtracts or adds of one logit must be equal values, or their
    order, and so the last bit, is left open.
    """
    if logits.dtype != torch.float32 or logits.dim() != 2:
        raise ValueError(f"logits are {list(logits.shape)} {logits.dtype}, but must be 2-d fp32")
    if not uses_triton(logits):
        edit_logits_torch_(logits, edits)
        return
    from .triton.logit_edits import edit_logits_triton_

    edit_logits_triton_(logits, edits)


def edit_logits_torch_(logits: Tensor, edits: EditBatch) -> None:
    """The meaning of `edit_logits_`, in torch: one scatter a rule."""
    rows, token_ids = edits.rows.long(), edits.token_ids.long()
    begin = 0
    for rule, end in enumerate(edits.ends):
        where = rows[begin:end], token_ids[begin:end]
        values = edits.values[begin:end]
        begin = end
        if not values.numel():
            continue
        if rule == 0:
            old = logits[where]
            logits[where] = torch.where(old > 0, old / values, old * values)
        else:
            logits.index_put_(where, values if rule == 3 else -values, accumulate=True)
