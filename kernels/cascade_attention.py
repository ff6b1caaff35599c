"""Attention for requests that share a prefix: its K and V are read once for all of them.

Cascade inference (FlashInfer; Ye et al., 2024; also Hydragen, Juravsky et al., 2024): the tokens of
all requests of a group attend to the common blocks together, each request's tokens attend to its
own suffix, and `merge_states` puts the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attention_plan import plan_attention
from .dispatch import uses_triton
from .merge_states import merge_states
from .paged_attention import check_attention, ragged_paged_attention_torch
from .ragged_batch import RaggedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefixes:
    """Groups of neighbouring requests whose block tables begin with the same blocks."""

    group_start_loc: Tensor
    """[num_groups + 1] int32, ascending from 0 to num_reqs: requests of each group. A request that
    shares nothing is a group of its own, with a prefix of 0."""
    prefix_lens: Tensor
    """[num_groups] int32: tokens of the prefix, whole blocks, less than every sequence of the group
    had before this step."""
    max_prefix_len: int
    """Host bound."""
    max_group_tokens: int
    """Host bound on the query tokens of one group."""

    def __post_init__(self) -> None:
        num_groups = self.prefix_lens.shape[0]
        if self.group_start_loc.shape != (num_groups + 1,):
            raise ValueError(
                f"group_start_loc is [num_groups + 1] = [{num_groups + 1}], not"
                f" {list(self.group_start_loc.shape)}"
            )
        for name in ("group_start_loc", "prefix_lens"):
            if getattr(self, name).dtype != torch.int32:
                raise ValueError(f"{name} is int32, not {getattr(self, name).dtype}")


def cascade_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    prefixes: SharedPrefixes,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`ragged_paged_attention` of a batch in which groups of requests share a prefix.

    The same tensors and the same result, with its log-sum-exp, but for rounding: the parts meet in
    fp32. Pays when a group's tokens times the prefix are many: one group reads the prefix once, not
    once a request. No sliding window: it would leave the prefix behind.
    """
    if batch.sliding_window is not None:
        raise ValueError(
            "cascade_attention: a sliding window leaves the shared prefix behind; use"
            " ragged_paged_attention"
        )
    check_attention(query, key_cache, value_cache, batch, sinks, k_scale, v_scale, out)
    if out is None:
        out = torch.empty_like(query)
    groups = _batch_of_groups(batch, prefixes)
    first_keys = _first_keys(batch, prefixes)
    parts = []
    for part, causal, starts in ((groups, False, None), (batch, True, first_keys)):
        # Rows that no request owns: two parts of no keys, whatever they hold, are zeros in `out`.
        part_out = query.new_empty(query.shape, dtype=_wide(query.dtype))
        part_lse = query.new_full(query.shape[:2], float("-inf"), dtype=torch.float32)
        _attend(
            query, key_cache, value_cache, part, causal, starts,
            scale=scale, softcap=softcap, sinks=sinks if causal else None,
            k_scale=k_scale, v_scale=v_scale, out=part_out, lse=part_lse,
        )  # fmt: skip
        parts += [part_out, part_lse]
    return merge_states(parts[0], parts[1], parts[2], parts[3], out=out)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _batch_of_groups(batch: RaggedBatch, prefixes: SharedPrefixes) -> RaggedBatch:
    """Each group as one request: the tokens of its requests, the keys of its prefix."""
    starts = prefixes.group_start_loc.long()
    # A group of padding may begin where the requests end.
    first = starts[:-1].clamp(max=max(batch.num_reqs - 1, 0))
    return replace(
        batch,
        query_start_loc=batch.query_start_loc[starts],
        seq_lens=prefixes.prefix_lens,
        block_tables=batch.block_tables[first],
        max_query_len=prefixes.max_group_tokens,
        max_seq_len=prefixes.max_prefix_len,
    )


def _first_keys(batch: RaggedBatch, prefixes: SharedPrefixes) -> Tensor:
    """[num_reqs] int32: where each request's own keys begin."""
    requests = torch.arange(batch.num_reqs, dtype=torch.int32, device=batch.seq_lens.device)
    group = torch.searchsorted(prefixes.group_start_loc, requests, right=True) - 1
    return prefixes.prefix_lens[group]


def _attend(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    causal: bool,
    first_keys: Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    out: Tensor,
    lse: Tensor,
) -> None:
    if not uses_triton(query):
        ragged_paged_attention_torch(
            query, key_cache, value_cache, batch,
            scale=scale, softcap=softcap, sinks=sinks, k_scale=k_scale, v_scale=v_scale,
            out=out, lse=lse, causal=causal, first_keys=first_keys,
        )  # fmt: skip
        return
    from .triton.paged_attention import ragged_paged_attention_triton

    plan = plan_attention(
        batch,
        num_q_heads=query.shape[1],
        key_cache=key_cache,
        plain=False,
        causal=causal,
        first_keys=first_keys,
    )
    ragged_paged_attention_triton(
        query, key_cache, value_cache, batch,
        scale=scale, softcap=softcap, sinks=sinks, k_scale=k_scale, v_scale=v_scale,
        out=out, lse=lse, plan=plan,
    )  # fmt: skip
