"""Which keys each program of paged attention reads: worked out once a step, on the device.

A *tile* is the few query tokens of one request that a program holds; a *split* is the range of keys
that it reads for them. Programs take *items*, tile x split, from a list as long as the step needs,
so a captured graph with room for the longest context costs a step of short ones nothing. All layers
of a KV cache group share a plan.

Splits begin at multiples of a size that follows from the request's own numbers (see
`kernels/launch/paged_attention.py`): the rest of the batch cannot change how a row is summed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .dispatch import gpu_of, uses_triton
from .kv_quantization import is_quantized
from .launch.paged_attention import MAX_PROGRAMS, TileShape, attention_path
from .ragged_batch import RaggedBatch

ITEM = 16
"""Numbers from one item to the next, the last six unused: no item lies in two cache lines."""
FAR = 1 << 30
"""Position of a token that sees all keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """The work for one shape of tile."""

    shape: TileShape
    items: Tensor
    """[max_items, ITEM] int32: row of query of the first token, number of tokens, position of the
    first token, first key, end of keys, request, first partial row (-1: the only split, which
    writes the output), split, number of splits, number of items. The last is also in the rows
    behind the items, as far as a program may begin: one look at its row tells it everything."""
    num_kv_heads: int
    max_partial_rows: int
    """Rows (token x split) of partial results that the items may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """The work of one step's attention."""

    tiles: tuple[TilePlan, ...]
    prefill_min_query_len: int | None
    """Requests with so many tokens or more are for `prefill_attention`; None: there are none."""


def plan_attention(
    batch: RaggedBatch,
    *,
    num_q_heads: int,
    key_cache: Tensor,
    plain: bool = True,
    causal: bool = True,
    first_keys: Tensor | None = None,
) -> AttentionPlan:
    """Plan a step, for all layers whose cache looks like `key_cache`. The host does not wait.

    plain: the layers have neither soft-cap nor sinks, which the path for long prompts lacks.
    causal=False: each token sees all keys of its sequence. first_keys: [num_reqs] int32, the first
    key that a request's tokens see.
    """
    _, block_size, num_kv_heads, head_dim = key_cache.shape
    path = attention_path(
        gpu_of(key_cache.device),
        group=num_q_heads // num_kv_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        block_size=block_size,
        kv_bytes=key_cache.element_size(),
        window=batch.sliding_window,
        max_query_len=batch.max_query_len,
        plain=plain and causal and first_keys is None and not is_quantized(key_cache.dtype),
    )
    if first_keys is not None and (
        first_keys.shape != (batch.num_reqs,) or first_keys.dtype != torch.int32
    ):
        raise ValueError(
            f"plan_attention: first_keys is int32 [{batch.num_reqs}], not {first_keys.dtype}"
            f" {list(first_keys.shape)}"
        )
    if not causal and batch.sliding_window is not None:
        raise ValueError("plan_attention: a sliding window needs causal attention")
    tiles = tuple(
        _plan_tiles(batch, shape, num_kv_heads, causal, first_keys) for shape in path.shapes
    )
    return AttentionPlan(tiles=tiles, prefill_min_query_len=path.prefill_min_query_len)


def _plan_tiles(
    batch: RaggedBatch,
    shape: TileShape,
    num_kv_heads: int,
    causal: bool,
    first_keys: Tensor | None,
) -> TilePlan:
    num_reqs, num_tokens = batch.num_reqs, batch.slot_mapping.shape[0]
    bounds = num_reqs, num_tokens, batch.max_query_len, batch.max_seq_len
    partial_rows = shape.max_partial_rows(*bounds)

    plan = TilePlan(
        shape=shape,
        items=batch.seq_lens.new_empty(shape.max_items(*bounds), ITEM),
        num_kv_heads=num_kv_heads,
        max_partial_rows=partial_rows,
    )
    if uses_triton(batch.seq_lens):
        from .triton.attention_plan import plan_tiles_triton

        plan_tiles_triton(batch, plan, causal, first_keys)
    else:
        plan_tiles_torch(batch, plan, causal, first_keys)
    return plan


def plan_tiles_torch(
    batch: RaggedBatch, plan: TilePlan, causal: bool, first_keys: Tensor | None
) -> None:
    """What the plan holds, request by request on the host."""
    shape, window = plan.shape, batch.sliding_window
    starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
    firsts = [0] * len(seq_lens) if first_keys is None else first_keys.tolist()
    items: list[list[int]] = []
    wanted_rows = 0
    for request, (seq_len, first_key) in enumerate(zip(seq_lens, firsts, strict=True)):
        start, query_len = starts[request], starts[request + 1] - starts[request]
        if not max(shape.min_query_len, 1) <= query_len <= shape.max_query_len:
            continue
        first_position = seq_len - query_len if causal else FAR

        def first_seen(position: int, first_key: int = first_key) -> int:
            return first_key if window is None else max(first_key, position - window + 1)

        size = shape.split_keys(query_len, seq_len)
        first_split = first_seen(first_position) // size
        num_splits = max(seq_len - 1, first_seen(first_position)) // size - first_split + 1
        partial_row, split_keys = -1, size
        if shape.splits and num_splits > 1:
            partial_row = wanted_rows
            wanted_rows += query_len * num_splits
        if partial_row < 0 or wanted_rows > plan.max_partial_rows:
            partial_row, num_splits, first_split, split_keys = -1, 1, 0, FAR
        for token in range(0, query_len, shape.tokens):
            num_tokens = min(shape.tokens, query_len - token)
            position = first_position + token if causal else FAR
            for split in range(num_splits):
                low = (first_split + split) * split_keys
                begin = max(low, first_seen(position))
                end = min(low + split_keys, seq_len, position + num_tokens)
                # Tile after tile, and in a tile split after split.
                tile_row = partial_row + token * num_splits
                row = -1 if partial_row < 0 else tile_row + split * num_tokens
                keys = [begin, end, request, row, split, num_splits]
                items.append([start + token, num_tokens, position, *keys])
    if items:
        plan.items[: len(items), :9] = torch.tensor(items, dtype=torch.int32)
    plan.items[: max(len(items), MAX_PROGRAMS), 9] = len(items)
