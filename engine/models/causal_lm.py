"""What the torch backend needs of a model, whatever its family."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from shoal.kernels.paged_batch import PagedBatch

from .config import ModelConfig


class CausalLM(Protocol):
    """A decoder over the paged KV cache."""

    config: ModelConfig

    def __call__(
        self,
        input_ids: Tensor,
        positions: Tensor,
        kv_caches: list[tuple[Tensor, Tensor]],
        batches: list[PagedBatch],
    ) -> Tensor:
        """Hidden states [num_tokens, hidden_size] after the last norm.

        input_ids, positions: [num_tokens] int64; kv_caches: key and value cache of each layer;
        batches: one per KV cache group. Writes the K and V of all tokens.
        """
        ...

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Logits [num_rows, vocab_size] fp32 of chosen rows of the hidden states."""
        ...
