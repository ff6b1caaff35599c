"""What attention must know of a step, worked out once and used by every layer of a KV group.

On the torch path each decode gathers its blocks into a padded batch. Sequences of similar length
share a bucket, so that one long sequence does not pad thirty short ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .paged_batch import PagedBatch

BUCKET_SLACK = 1.25
"""A bucket pads its shortest sequence to at most this multiple of its blocks."""


@dataclass(frozen=True, slots=True)
class DecodeBucket:
    """Sequences with one query token each, gathered into [num_seqs, num_slots]."""

    tokens: Tensor
    """[num_seqs] int64: their rows in the step's tokens."""
    block_ids: Tensor
    """[num_seqs * num_blocks] int64, padded with the null block."""
    mask: Tensor
    """[num_seqs, 1, 1, num_slots] fp32: 0 where the query attends, -inf elsewhere."""
    unused: tuple[Tensor, Tensor]
    """(sequence, slot) pairs of gathered slots that hold no token of the sequence."""


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Consecutive query tokens of one sequence."""

    tokens: slice
    """Their rows in the step's tokens."""
    block_ids: Tensor
    """[num_blocks] int64."""
    num_keys: int
    """Gathered slots that hold tokens; the rest of the last block is cut off."""
    mask: Tensor | None
    """[num_queries, num_keys] fp32; None: plain causal from the first token on."""


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """One step for one KV cache group."""

    slot_mapping: Tensor
    """[num_tokens] int64: where each token's K and V are written."""
    decodes: list[DecodeBucket]
    prefills: list[PrefillChunk]

    @classmethod
    def build(cls, batch: PagedBatch, device: torch.device) -> AttentionMetadata:
        """Plan the attention of one step: worked out on the host, tensors on `device`."""
        query_lens, seq_lens = batch.query_lens.tolist(), batch.seq_lens.tolist()
        block_size, window = batch.block_size, batch.sliding_window
        num_decodes = next((i for i, n in enumerate(query_lens) if n != 1), len(query_lens))
        tables = batch.block_tables.cpu().numpy().astype(np.int64)
        prefills, start = [], num_decodes
        for row in range(num_decodes, len(query_lens)):
            tokens = slice(start, start + query_lens[row])
            prefills.append(
                _prefill(tables[row], tokens, seq_lens[row], block_size, window, device)
            )
            start = tokens.stop
        lens = batch.seq_lens[:num_decodes]
        decodes = _decodes(tables[:num_decodes], lens, block_size, window, device)
        return cls(slot_mapping=batch.slot_mapping, decodes=decodes, prefills=prefills)


def _decodes(
    tables: np.ndarray,
    seq_lens: np.ndarray,
    block_size: int,
    window: int | None,
    device: torch.device,
) -> list[DecodeBucket]:
    first_keys = np.zeros_like(seq_lens) if window is None else np.maximum(seq_lens - window, 0)
    first_blocks = first_keys // block_size
    num_blocks = -(-seq_lens // block_size) - first_blocks
    order = np.argsort(num_blocks, kind="stable")
    counts, buckets, begin = num_blocks[order], [], 0
    while begin < len(order):
        limit = max(counts[begin] * BUCKET_SLACK, counts[begin] + 1)
        end = int(np.searchsorted(counts, limit, side="right"))
        rows = order[begin:end]
        columns = first_blocks[rows, None] + np.arange(counts[end - 1])
        held = columns < (first_blocks + num_blocks)[rows, None]
        columns = np.minimum(columns, tables.shape[1] - 1)
        block_ids = np.where(held, tables[rows[:, None], columns], 0)
        # Positions of the gathered slots in their sequences.
        slots = np.arange(counts[end - 1] * block_size)
        positions = first_blocks[rows, None] * block_size + slots
        unused = positions >= seq_lens[rows, None]
        hidden = unused | (positions < first_keys[rows, None])
        mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
        buckets.append(
            DecodeBucket(
                tokens=torch.from_numpy(rows).to(device),
                block_ids=torch.from_numpy(block_ids.reshape(-1)).to(device),
                mask=torch.from_numpy(mask[:, None, None, :]).to(device),
                unused=tuple(torch.from_numpy(i).to(device) for i in unused.nonzero()),  # type: ignore[arg-type]
            )
        )
        begin = end
    return buckets


def _prefill(
    table: np.ndarray,
    tokens: slice,
    seq_len: int,
    block_size: int,
    window: int | None,
    device: torch.device,
) -> PrefillChunk:
    first_query = seq_len - (tokens.stop - tokens.start)
    first_key = 0 if window is None else max(first_query - window + 1, 0)
    first_block = first_key // block_size
    offset = first_block * block_size
    block_ids = table[first_block : -(-seq_len // block_size)]
    mask = None
    if first_query > 0 or (window is not None and seq_len > window):
        queries = torch.arange(first_query, seq_len, device=device)[:, None]
        keys = torch.arange(offset, seq_len, device=device)
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
    return PrefillChunk(
        tokens=tokens,
        block_ids=torch.from_numpy(block_ids).to(device),
        num_keys=seq_len - offset,
        mask=mask,
    )
