"""Prefill attention for Hopper: two warps load, two groups of warps compute, each at its own pace.

After FlashAttention-3 (Shah et al., 2024), in Gluon, Triton's lower language, where warps can be
given different work and products run while the warps that issued them go on:

- two warps walk the block table, one for K and one for V, and have the copy engine bring each
  block to where the matrix units expect it: no gathered copy, no address arithmetic in the warps
  that compute. One warp for both is slower: K, free earlier, waits behind V;
- two warpgroups hold 64 queries each. A step issues the scores of the next key tile and the values
  of this one, and computes the softmax of the next under them;
- programs stay for all their tiles, so the next tile's loads run under this tile's end. They take
  tiles in rounds, every other one backwards: long tiles first, and each program gets its share of
  long and short ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from ..dispatch import gpu_of
from .prefill_loads_hopper import load
from .prefill_softmax_hopper import attend

if TYPE_CHECKING:
    from ..launch.prefill_attention import HopperPrefill
    from ..ragged_batch import RaggedBatch

LOG2_E = 1.4426950408889634
FAR = 1 << 30
"""The window of attention without one."""

TILE = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
"""64 columns of 16 bits are a row of 128 bytes, swizzled; a wider tile is several such columns."""


@gluon.jit(
    do_not_specialize=[
        "num_reqs", "min_query_len", "num_items", "window", "stride_tables", "no_row", "block_rows",
        "head_rows", "head_columns",
    ]
)  # fmt: skip
def _prefill_kernel(
    q_desc,
    k_desc,
    v_desc,
    out_ptr,
    lse_ptr,
    tables_ptr,
    query_start_ptr,
    seq_lens_ptr,
    factor,
    num_reqs,
    min_query_len,
    num_items,
    window,
    stride_tables,
    stride_out_token,
    stride_out_head,
    no_row,
    block_rows,
    head_rows,
    head_columns,
    NUM_HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    PAGE: gl.constexpr,
    STAGES: gl.constexpr,
    WINDOWED: gl.constexpr,
    WITH_LSE: gl.constexpr,
    LAYOUT: gl.constexpr,
):
    """Shared memory and barriers, then everyone to work.

    `ready` barriers are passed once the bytes of a stage are there, `empty` ones once both
    warpgroups have read them.
    """
    DTYPE: gl.constexpr = q_desc.dtype
    q_smem = gl.allocate_shared_memory(DTYPE, [2, BLOCK_M // 2, HEAD_DIM], LAYOUT)
    k_smem = gl.allocate_shared_memory(DTYPE, [STAGES, BLOCK_N, HEAD_DIM], LAYOUT)
    v_smem = gl.allocate_shared_memory(DTYPE, [STAGES, BLOCK_N, HEAD_DIM], LAYOUT)
    q_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_ready, count=1)
    mbarrier.init(q_empty, count=2)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(stage), count=1)
        mbarrier.init(k_empty.index(stage), count=2)
        mbarrier.init(v_ready.index(stage), count=1)
        mbarrier.init(v_empty.index(stage), count=2)
    fence_async_shared()

    buffers = (q_smem, k_smem, v_smem)
    bars = (q_ready, q_empty, k_ready, k_empty, v_ready, v_empty)
    schedule = (query_start_ptr, seq_lens_ptr, num_reqs, min_query_len, num_items, window)
    results = (out_ptr, lse_ptr, stride_out_token, stride_out_head)
    descs = (q_desc, k_desc, v_desc)
    tables = (tables_ptr, stride_tables)
    cache = (no_row, block_rows, head_rows, head_columns)
    gl.warp_specialize(
        [
            (
                attend,
                (
                    0, buffers, bars, schedule, results, factor, NUM_HEADS, BLOCK_M, BLOCK_N,
                    HEAD_DIM, PAGE, STAGES, WINDOWED, WITH_LSE, LAYOUT,
                ),
            ),
            (
                attend,
                (
                    1, buffers, bars, schedule, results, factor, NUM_HEADS, BLOCK_M, BLOCK_N,
                    HEAD_DIM, PAGE, STAGES, WINDOWED, WITH_LSE, LAYOUT,
                ),
            ),
            (
                load,
                (
                    True, descs, buffers, bars, schedule, tables, cache, NUM_HEADS, GROUP, BLOCK_M,
                    BLOCK_N, HEAD_DIM, PAGE, STAGES,
                ),
            ),
            (
                load,
                (
                    False, descs, buffers, bars, schedule, tables, cache, NUM_HEADS, GROUP, BLOCK_M,
                    BLOCK_N, HEAD_DIM, PAGE, STAGES,
                ),
            ),
        ],
        [4, 1, 1],
        [240, 24, 24],
    )  # fmt: skip


def prefill_attention_hopper(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    scale: float,
    min_query_len: int,
    out: Tensor,
    lse: Tensor | None,
    config: HopperPrefill,
) -> None:
    """Launch with the tiles and the view of the cache in `config`."""
    num_tokens, num_heads, head_dim = query.shape
    cache = config.cache
    box = [config.page, 64]
    descs = [
        TensorDescriptor(
            query, [num_tokens, num_heads * head_dim], [query.stride(0), 1],
            [config.block_m // 2, head_dim], TILE,
        )
    ] + [
        TensorDescriptor(
            tensor, [cache.num_rows, cache.num_columns], [cache.row_stride, 1], box, TILE
        )
        for tensor in (key_cache, value_cache)
    ]  # fmt: skip
    num_items = (num_tokens // config.block_m + batch.num_reqs) * num_heads
    _prefill_kernel[(min(num_items, gpu_of(query.device).num_sms),)](
        *descs,
        out,
        out if lse is None else lse,
        batch.block_tables,
        batch.query_start_loc,
        batch.seq_lens,
        scale * LOG2_E,
        batch.num_reqs,
        min_query_len,
        num_items,
        FAR if batch.sliding_window is None else batch.sliding_window,
        batch.block_tables.stride(0),
        out.stride(0),
        out.stride(1),
        cache.num_rows,
        cache.block_rows,
        cache.head_rows,
        cache.head_columns,
        NUM_HEADS=num_heads,
        GROUP=num_heads // key_cache.shape[2],
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        HEAD_DIM=head_dim,
        PAGE=config.page,
        STAGES=config.num_stages,
        WINDOWED=batch.sliding_window is not None,
        WITH_LSE=lse is not None,
        LAYOUT=TILE,
        num_warps=4,
        maxnreg=168,
    )
