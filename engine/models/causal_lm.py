"""What the torch and CUDA backends need of a model, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from .config import ModelConfig
from .paged_kv import Batch, LayerKV


class CausalLM(Protocol):
    """A decoder over the paged KV cache."""

    config: ModelConfig

    def __call__(
        self,
        input_ids: Tensor,
        positions: Tensor,
        kv_caches: list[LayerKV],
        batches: Sequence[Batch],
    ) -> Tensor:
        """Hidden states [num_tokens, hidden_size] after the last norm.

        input_ids, positions: [num_tokens] int64; kv_caches: of each layer; batches: one per KV
        cache group. Writes the K and V of all tokens.
        """
        ...

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Logits [num_rows, vocab_size] of chosen rows of the hidden states, in their dtype."""
        ...
