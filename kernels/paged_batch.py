"""What attention is told about a step: the sequences of one KV cache group and their blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """One step for one KV cache group; decodes (one token) come first."""

    query_lens: NDArray[np.int64]
    """[num_reqs] tokens computed in this step."""
    seq_lens: NDArray[np.int64]
    """[num_reqs] tokens of each sequence, with those of this step."""
    block_tables: Tensor
    """[num_reqs, max_blocks] int32. Only blocks inside the window are ever read."""
    slot_mapping: Tensor
    """[num_tokens] int64: slot = block_id * block_size + offset, where K and V are written."""
    block_size: int
    sliding_window: int | None
