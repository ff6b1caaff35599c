"""Changes to single logits before a token is chosen: penalties, biases, forbidden tokens.

They touch few entries of a [num_rows, vocab_size] matrix, so each is a list of entries and one
scatter; no matrix of token counts is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of the logits matrix with a number for each; all three are [num_entries]."""

    rows: Tensor
    token_ids: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEdits:
    """The edits of one step, in the order they are applied; None: no row asks for it."""

    repetition: Entries | None = None
    """Prompt and output tokens with `repetition_penalty`, as CTRL (Keskar et al., 2019) and
    Hugging Face define it: a positive logit is divided by it, a negative one multiplied."""
    presence: Entries | None = None
    """Output tokens with `presence_penalty`: subtracted once, however often the token came."""
    frequency: Entries | None = None
    """Output tokens, every occurrence, with `frequency_penalty`: subtracted for each."""
    added: Entries | None = None
    """`logit_bias`, and -inf for stop tokens of rows that are short of their `min_tokens`."""

    def apply_(self, logits: Tensor) -> None:
        """Edit `logits` [num_rows, vocab_size] in place."""
        if (edit := self.repetition) is not None:
            old = logits[edit.rows, edit.token_ids]
            new = torch.where(old > 0, old / edit.values, old * edit.values)
            logits[edit.rows, edit.token_ids] = new  # duplicates write the same number
        if (edit := self.presence) is not None:
            logits[edit.rows, edit.token_ids] = logits[edit.rows, edit.token_ids] - edit.values
        if (edit := self.frequency) is not None:
            logits.index_put_((edit.rows, edit.token_ids), -edit.values, accumulate=True)
        if (edit := self.added) is not None:
            logits.index_put_((edit.rows, edit.token_ids), edit.values, accumulate=True)
