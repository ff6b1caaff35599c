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

Boxes beyond the last block are outside the tensor, and the copy engine fills those with zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from ..dispatch import gpu_of

if TYPE_CHECKING:
    from ..launch.prefill_attention import HopperPrefill
    from ..ragged_batch import RaggedBatch

LOG2_E = 1.4426950408889634
FAR = 1 << 30
"""The window of attention without one."""

TILE = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
"""64 columns of 16 bits are a row of 128 bytes, swizzled; a wider tile is several such columns."""


@gluon.jit
def _item_of(round_, num_programs):
    """Programs take items in order in one round, and in reverse order in the next."""
    program = gl.program_id(0)
    return round_ * num_programs + gl.where(round_ % 2 == 0, program, num_programs - 1 - program)


@gluon.jit
def _work_of(item, schedule, NUM_HEADS: gl.constexpr, BLOCK_M: gl.constexpr):
    """Head, request, first token, tokens left, its position, length, first key and end of keys.

    Heads of one tile are next to each other, so that those of a group read the same keys at about
    the same time. An end of 0: there is nothing to do. Request r has room for its tiles from
    `query_start[r] // BLOCK_M + r` on, whatever the lengths are.
    """
    query_start_ptr, seq_lens_ptr, num_reqs, min_query_len, num_items, window = schedule
    head = item % NUM_HEADS
    tile = item // NUM_HEADS
    low = item * 0
    high = num_reqs + low
    while high - low > 1:
        middle = (low + high) // 2
        if gl.load(query_start_ptr + middle) // BLOCK_M + middle <= tile:
            low = middle
        else:
            high = middle
    start = gl.load(query_start_ptr + low)
    query_len = gl.load(query_start_ptr + low + 1) - start
    seq_len = gl.load(seq_lens_ptr + low)
    tile = gl.cdiv(query_len, BLOCK_M) - 1 - (tile - start // BLOCK_M - low)
    first = tile * BLOCK_M
    position = seq_len - query_len + first
    end = gl.minimum(position + BLOCK_M, seq_len)
    wanted = (item < num_items) & (tile >= 0) & (query_len >= min_query_len)
    end = gl.where(wanted, end, 0)
    begin = gl.maximum(position - window + 1, 0)
    return head, low, start + first, query_len - first, position, seq_len, begin, end


@gluon.jit
def _load(
    KEYS: gl.constexpr, descs, buffers, bars, schedule, tables, cache,
    NUM_HEADS: gl.constexpr, GROUP: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    HEAD_DIM: gl.constexpr, PAGE: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """A warp that loads: queries and keys of each item, or its values; the last tile first.

    A tile is a box for each block and for each 64 columns of the head.
    """
    q_smem, k_smem, v_smem = buffers
    q_ready, q_empty, k_ready, k_empty, v_ready, v_empty = bars
    tables_ptr, stride_tables = tables
    no_row, block_rows, head_rows, head_columns = cache
    if KEYS:
        desc, smem, ready, empty = descs[1], k_smem, k_ready, k_empty
    else:
        desc, smem, ready, empty = descs[2], v_smem, v_ready, v_empty
    COLUMNS: gl.constexpr = HEAD_DIM // 64
    PAGES: gl.constexpr = BLOCK_N // PAGE
    boxes = smem._reinterpret(desc.dtype, [STAGES * COLUMNS * PAGES, PAGE, 64], desc.layout)
    num_programs = gl.num_programs(0)
    loaded = gl.program_id(0) * 0
    queries = gl.program_id(0) * 0
    for round_ in range(gl.cdiv(schedule[4], num_programs)):
        item = _item_of(round_, num_programs)
        head, request, token, _rows, _position, seq_len, begin, end = _work_of(
            item, schedule, NUM_HEADS, BLOCK_M
        )
        if end > 0:
            if KEYS:
                mbarrier.wait(q_empty, (queries & 1) ^ 1)
                mbarrier.expect(q_ready, BLOCK_M * HEAD_DIM * 2)
                for part in gl.static_range(2):
                    tma.async_copy_global_to_shared(
                        descs[0],
                        [token + part * (BLOCK_M // 2), head * HEAD_DIM],
                        q_ready,
                        q_smem.index(part),
                    )
                queries += 1
            kv_head = head // GROUP
            num_blocks = gl.cdiv(seq_len, PAGE)
            table = tables_ptr + request.to(gl.int64) * stride_tables
            num_tiles = gl.cdiv(end, BLOCK_N)
            first_block = begin // PAGE
            for i in range(num_tiles - begin // BLOCK_N):
                stage = loaded % STAGES
                bar = ready.index(stage)
                mbarrier.wait(empty.index(stage), ((loaded // STAGES) & 1) ^ 1)
                mbarrier.expect(bar, BLOCK_N * HEAD_DIM * 2)
                for page in gl.static_range(PAGES):
                    at = (num_tiles - 1 - i) * PAGES + page
                    held = (at >= first_block) & (at < num_blocks)
                    block = gl.load(table + at, mask=held, other=0)
                    row = gl.where(held, block * block_rows + kv_head * head_rows, no_row)
                    for column in gl.static_range(COLUMNS):
                        tma.async_copy_global_to_shared(
                            desc,
                            [row, kv_head * head_columns + column * 64],
                            bar,
                            boxes.index((stage * COLUMNS + column) * PAGES + page),
                        )
                loaded += 1


@gluon.jit
def _exp2(x):
    """2^x by one instruction: results below 2^-126 are 0, which is what they add up to."""
    return gl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1
    )


@gluon.jit
def _hidden(
    scores, position, tile, window,
    ROWS: gl.constexpr, BLOCK_N: gl.constexpr, WINDOWED: gl.constexpr,
):  # fmt: skip
    """Scores of keys behind their query, or before its window, become -inf."""
    layout: gl.constexpr = scores.type.layout
    rows = position + gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
    keys = tile * BLOCK_N + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
    seen = keys[None, :] <= rows[:, None]
    if WINDOWED:
        seen = seen & (keys[None, :] > rows[:, None] - window)
    return gl.where(seen, scores, float("-inf"))


@gluon.jit
def _softmax(scores, top, total, factor, MASKED: gl.constexpr):
    """Weights of one tile, the new maximum and sum, and what shrinks the sums so far."""
    new_top = gl.maximum(top, gl.max(scores, 1))
    shift = new_top * factor
    if MASKED:  # a query may see no key of the tiles so far
        shift = gl.where(new_top == float("-inf"), 0.0, shift)
    weights = _exp2(scores * factor - shift[:, None])
    shrink = _exp2(top * factor - shift)
    return weights, new_top, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def _scores(
    q, k_smem, k_ready, used, ROWS: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr
):
    """Issue q @ k^T of one tile once it is there."""
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    stage = used % STAGES
    mbarrier.wait(k_ready.index(stage), (used // STAGES) & 1)
    zeros = gl.zeros([ROWS, BLOCK_N], gl.float32, layout)
    return warpgroup_mma(
        q, k_smem.index(stage).permute((1, 0)), zeros, use_acc=False, is_async=True
    )


@gluon.jit
def _step(
    q, buffers, bars, state, tile, position, window, factor,
    ROWS: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, MASKED: gl.constexpr,
    WINDOWED: gl.constexpr,
):  # fmt: skip
    """Issue the scores of `tile` and the values of the tile before; softmax under the latter."""
    _, k_smem, v_smem = buffers
    _, _, k_ready, k_empty, v_ready, v_empty = bars
    weights, out, top, total, used = state
    stage = used % STAGES
    scores = _scores(q, k_smem, k_ready, used + 1, ROWS, BLOCK_N, STAGES)
    mbarrier.wait(v_ready.index(stage), (used // STAGES) & 1)
    out = warpgroup_mma(weights, v_smem.index(stage), out, is_async=True)
    scores = warpgroup_mma_wait(1, deps=[scores])
    gl.thread_barrier()
    mbarrier.arrive(k_empty.index((used + 1) % STAGES), count=1)
    if MASKED:
        scores = _hidden(scores, position, tile, window, ROWS, BLOCK_N, WINDOWED)
    new_weights, top, total, shrink = _softmax(scores, top, total, factor, MASKED)
    new_weights = gl.convert_layout(new_weights.to(v_smem.dtype), weights.type.layout)
    out, weights = warpgroup_mma_wait(0, deps=[out, weights])
    gl.thread_barrier()
    mbarrier.arrive(v_empty.index(stage), count=1)
    out = out * gl.convert_layout(shrink, gl.SliceLayout(1, out.type.layout))[:, None]
    return new_weights, out, top, total, used + 1


@gluon.jit
def _clear_tail(
    v_smem, v_layout: gl.constexpr, stage, tile, seq_len,
    BLOCK_N: gl.constexpr, PAGE: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Zeros for the slots behind the sequence in its last block: they may hold NaN, and 0 * NaN."""
    COLUMNS: gl.constexpr = v_smem.type.shape[2] // 64
    PAGES: gl.constexpr = BLOCK_N // PAGE
    THREADS: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    pages = v_smem._reinterpret(v_smem.dtype, [STAGES * COLUMNS * PAGES, PAGE, 64], v_layout)
    held = gl.arange(0, PAGE, layout=gl.SliceLayout(1, THREADS)) < seq_len % PAGE
    at = seq_len // PAGE - tile * PAGES
    for column in gl.static_range(COLUMNS):
        page = pages.index((stage * COLUMNS + column) * PAGES + at)
        values = page.load(THREADS)
        page.store(gl.where(held[:, None], values, gl.zeros_like(values)))
    fence_async_shared()
    gl.thread_barrier()


@gluon.jit
def _attend(
    PART: gl.constexpr, buffers, bars, schedule, results, factor,
    NUM_HEADS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, HEAD_DIM: gl.constexpr,
    PAGE: gl.constexpr, STAGES: gl.constexpr, WINDOWED: gl.constexpr, WITH_LSE: gl.constexpr,
    V_LAYOUT: gl.constexpr,
):  # fmt: skip
    """A warpgroup: rows [64 * PART, + 64) of each item. Online softmax, the last keys first."""
    q_smem, k_smem, v_smem = buffers
    q_ready, q_empty, k_ready, k_empty, v_ready, v_empty = bars
    window = schedule[5]
    out_ptr, lse_ptr, stride_out_token, stride_out_head = results
    ROWS: gl.constexpr = BLOCK_M // 2
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HEAD_DIM, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    STORED: gl.constexpr = gl.BlockedLayout(
        [1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [4, 1], [1, 0]
    )
    q = q_smem.index(PART)
    num_programs = gl.num_programs(0)
    used = gl.program_id(0) * 0
    queries = gl.program_id(0) * 0
    for round_ in range(gl.cdiv(schedule[4], num_programs)):
        item = _item_of(round_, num_programs)
        head, _request, token, rows_left, position, seq_len, begin, end = _work_of(
            item, schedule, NUM_HEADS, BLOCK_M
        )
        if end > 0:
            token += PART * ROWS
            rows_left -= PART * ROWS
            position += PART * ROWS
            num_tiles = gl.cdiv(end, BLOCK_N)
            # Tiles from `seen` to `num_full` are seen by all rows and need no mask.
            first = begin // BLOCK_N
            num_full = gl.maximum(gl.minimum((position + 1) // BLOCK_N, num_tiles - 1), first)
            seen = first
            if WINDOWED:
                oldest = gl.maximum(position + ROWS - window, 0)
                seen = gl.maximum(gl.minimum(gl.cdiv(oldest, BLOCK_N), num_full), first)
            mbarrier.wait(q_ready, queries & 1)
            queries += 1
            stage = used % STAGES
            scores = _scores(q, k_smem, k_ready, used, ROWS, BLOCK_N, STAGES)
            scores = warpgroup_mma_wait(0, deps=[scores])
            gl.thread_barrier()
            mbarrier.arrive(k_empty.index(stage), count=1)
            scores = _hidden(scores, position, num_tiles - 1, window, ROWS, BLOCK_N, WINDOWED)
            top = gl.full([ROWS], float("-inf"), gl.float32, ROW)
            total = gl.zeros([ROWS], gl.float32, ROW)
            weights, top, total, _shrink = _softmax(scores, top, total, factor, True)
            weights = gl.convert_layout(weights.to(v_smem.dtype), P_LAYOUT)
            out = gl.zeros([ROWS, HEAD_DIM], gl.float32, O_LAYOUT)
            if (num_tiles * BLOCK_N > seq_len) & (seq_len % PAGE != 0):
                mbarrier.wait(v_ready.index(stage), (used // STAGES) & 1)
                _clear_tail(v_smem, V_LAYOUT, stage, num_tiles - 1, seq_len, BLOCK_N, PAGE, STAGES)
            state = (weights, out, top, total, used)
            for i in range(num_tiles - 1 - num_full):
                state = _step(
                    q, buffers, bars, state, num_tiles - 2 - i, position, window, factor,
                    ROWS, BLOCK_N, STAGES, True, WINDOWED,
                )  # fmt: skip
            for _i in range(num_full - seen):
                state = _step(
                    q, buffers, bars, state, 0, position, window, factor,
                    ROWS, BLOCK_N, STAGES, False, WINDOWED,
                )  # fmt: skip
            if WINDOWED:
                for i in range(seen - first):
                    state = _step(
                        q, buffers, bars, state, seen - 1 - i, position, window, factor,
                        ROWS, BLOCK_N, STAGES, True, WINDOWED,
                    )  # fmt: skip
            weights, out, top, total, used = state
            mbarrier.arrive(q_empty, count=1)
            stage = used % STAGES
            mbarrier.wait(v_ready.index(stage), (used // STAGES) & 1)
            out = warpgroup_mma(weights, v_smem.index(stage), out, is_async=True)
            out, weights = warpgroup_mma_wait(0, deps=[out, weights])
            gl.thread_barrier()
            mbarrier.arrive(v_empty.index(stage), count=1)
            used += 1

            out = out * (1.0 / gl.convert_layout(total, gl.SliceLayout(1, O_LAYOUT)))[:, None]
            out = gl.convert_layout(out.to(v_smem.dtype), STORED)
            row = gl.arange(0, ROWS, layout=gl.SliceLayout(1, STORED))
            dim = gl.arange(0, HEAD_DIM, layout=gl.SliceLayout(0, STORED))
            place = out_ptr + token.to(gl.int64) * stride_out_token + head * stride_out_head
            gl.store(
                place + row[:, None] * stride_out_token + dim[None, :],
                out,
                mask=(row < rows_left)[:, None],
            )
            if WITH_LSE:
                row = gl.arange(0, ROWS, layout=ROW)
                log = (top * factor + gl.log2(total)) * 0.6931471805599453
                place = lse_ptr + token.to(gl.int64) * NUM_HEADS + head
                gl.store(place + row * NUM_HEADS, log, mask=row < rows_left)


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
                _attend,
                (
                    0, buffers, bars, schedule, results, factor, NUM_HEADS, BLOCK_M, BLOCK_N,
                    HEAD_DIM, PAGE, STAGES, WINDOWED, WITH_LSE, LAYOUT,
                ),
            ),
            (
                _attend,
                (
                    1, buffers, bars, schedule, results, factor, NUM_HEADS, BLOCK_M, BLOCK_N,
                    HEAD_DIM, PAGE, STAGES, WINDOWED, WITH_LSE, LAYOUT,
                ),
            ),
            (
                _load,
                (
                    True, descs, buffers, bars, schedule, tables, cache, NUM_HEADS, GROUP, BLOCK_M,
                    BLOCK_N, HEAD_DIM, PAGE, STAGES,
                ),
            ),
            (
                _load,
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
