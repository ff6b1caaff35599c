"""What attention on a GPU is told about a step: device tensors, and bounds that the host knows.

Nothing here is read back by the host. Grids come from the bounds and the shapes, so one captured
CUDA graph serves every step that fits them: the tensors keep their addresses, their values change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RaggedBatch:
    """One step of one KV cache group: prefill chunks and decodes in any order.

    Request r owns the tokens query_start_loc[r] to query_start_loc[r + 1] (not included), and they
    are the last ones of its seq_lens[r] tokens. A request without tokens is padding; so are tokens
    behind query_start_loc[-1], which attention neither reads nor writes.
    """

    query_start_loc: Tensor
    """[num_reqs + 1] int32, ascending from 0; padding requests repeat the last value."""
    seq_lens: Tensor
    """[num_reqs] int32, tokens of each sequence with those of this step; 0 for padding."""
    block_tables: Tensor
    """[num_reqs, max_blocks] int32. Only blocks that hold a visible token are ever read."""
    slot_mapping: Tensor
    """[num_tokens] int64: slot = block_id * block_size + offset, where K and V are written;
    -1: write nothing (padding)."""
    block_size: int
    max_query_len: int
    """No request has more tokens in this step. Host bound: may be larger than the real maximum."""
    max_seq_len: int
    """No sequence is longer. Host bound."""
    sliding_window: int | None = None
    """A token sees itself and the `sliding_window - 1` tokens before it; None: all before it."""

    def __post_init__(self) -> None:
        num_reqs = self.query_start_loc.shape[0] - 1
        if num_reqs < 0 or self.query_start_loc.dim() != 1:
            raise ValueError(
                f"query_start_loc is [num_reqs + 1], not {list(self.query_start_loc.shape)}"
            )
        if self.seq_lens.shape != (num_reqs,):
            raise ValueError(f"seq_lens is [{num_reqs}], not {list(self.seq_lens.shape)}")
        if self.block_tables.dim() != 2 or self.block_tables.shape[0] != num_reqs:
            raise ValueError(
                f"block_tables is [{num_reqs}, max_blocks], not {list(self.block_tables.shape)}"
            )
        for name in ("query_start_loc", "seq_lens", "block_tables"):
            dtype = getattr(self, name).dtype
            if dtype != torch.int32:
                raise ValueError(f"{name} is int32, not {dtype}")
        for name in ("query_start_loc", "seq_lens", "slot_mapping"):
            if not getattr(self, name).is_contiguous():
                raise ValueError(f"{name} must be contiguous: kernels read it from its start on")
        if self.block_tables.shape[1] > 1 and self.block_tables.stride(1) != 1:
            raise ValueError("the rows of block_tables must be contiguous")
        if self.slot_mapping.dtype != torch.int64 or self.slot_mapping.dim() != 1:
            raise ValueError("slot_mapping is [num_tokens] int64")
        if self.block_size < 1 or (self.sliding_window is not None and self.sliding_window < 1):
            raise ValueError("block_size and sliding_window are at least 1")
        if self.max_query_len < 0 or self.max_seq_len < 0:
            raise ValueError("max_query_len and max_seq_len are not negative")

    @property
    def num_reqs(self) -> int:
        return self.seq_lens.shape[0]
