"""The warps of Hopper's prefill attention that compute: products, and the softmax under them.

See `prefill_attention_hopper`.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from .prefill_loads_hopper import item_of, work_of


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
def attend(
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
        item = item_of(round_, num_programs)
        head, _request, token, rows_left, position, seq_len, begin, end = work_of(
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
