"""MLA decode for Hopper: two warpgroups share each tile of latent rows, two warps load it.

The accumulators of 64 heads and 512 values fill the registers of two warpgroups, and one tile in
flight beside one in use fills the shared memory. So the work of a step of 64 rows is divided: a
warpgroup computes the scores of 32 rows, with all of their 576 numbers, and sums half of the
values of all 64. In between they exchange what each lacks, through shared memory: the maxima of
the other's scores, and the weights. That is how FlashMLA (DeepSeek, 2025) splits its output, too.

The scores of the next tile are issued behind the values of this one, so the matrix units stop only
for the softmax, of 16 numbers a thread.
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

if TYPE_CHECKING:
    from ..launch.mla_decode import HopperMlaDecode

TILE = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
WEIGHTS = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
BLOCK_H = 64
"""Query heads of a program."""


@gluon.jit
def _range_of(seq_lens_ptr, SPLIT_SIZE: gl.constexpr):
    """Sequence length, first row and end of this program's split (empty: none)."""
    seq_len = gl.load(seq_lens_ptr + gl.program_id(2))
    begin = gl.program_id(1) * SPLIT_SIZE
    return seq_len, begin, gl.minimum(begin + SPLIT_SIZE, seq_len)


@gluon.jit
def _load(
    PART: gl.constexpr, descs, buffers, bars, seq_lens_ptr, tables, num_heads, cache,
    SPLIT_SIZE: gl.constexpr, PAGE: gl.constexpr, ROWS: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """A warp that loads half of the rows of each step, in boxes of ROWS rows and 64 columns.

    There are 9 columns of boxes: 8 of latents, in two halves, and the rotary one. Boxes behind the
    sequence are outside the tensor, which the copy engine fills with zeros.
    """
    q_desc, k_desc = descs
    q_smem, q_rope, k_smem, k_rope = buffers
    q_ready, k_ready, k_empty = bars[:3]
    tables_ptr, stride_tables = tables
    no_row, block_rows = cache
    BOXES: gl.constexpr = 32 // ROWS
    q_boxes = q_smem._reinterpret(q_desc.dtype, [8, 64, 64], q_desc.layout)
    k_boxes = k_smem._reinterpret(k_desc.dtype, [STAGES * 16 * BOXES, ROWS, 64], k_desc.layout)
    rope_boxes = k_rope._reinterpret(k_desc.dtype, [STAGES * 2 * BOXES, ROWS, 64], k_desc.layout)
    seq_len, begin, end = _range_of(seq_lens_ptr, SPLIT_SIZE)
    seq = gl.program_id(2)
    table = tables_ptr + seq.to(gl.int64) * stride_tables
    if begin < end:
        if PART == 0:
            row = seq * num_heads + gl.program_id(0) * 64
            mbarrier.expect(q_ready, 64 * 576 * 2)
            for column in gl.static_range(8):
                tma.async_copy_global_to_shared(
                    q_desc, [row, column * 64], q_ready, q_boxes.index(column)
                )
            tma.async_copy_global_to_shared(q_desc, [row, 512], q_ready, q_rope)
        for step in range(gl.cdiv(end - begin, 64)):
            stage = step % STAGES
            bar = k_ready.index(stage)
            mbarrier.wait(k_empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(bar, 32 * 576 * 2)
            for box in gl.static_range(BOXES):
                at = begin + step * 64 + PART * 32 + box * ROWS
                held = at < seq_len
                block = gl.load(table + at // PAGE, mask=held, other=0)
                row = gl.where(held, block * block_rows + at % PAGE, no_row)
                first = (stage * 2 + PART) * 8 * BOXES + box
                for column in gl.static_range(8):
                    tma.async_copy_global_to_shared(
                        k_desc, [row, column * 64], bar, k_boxes.index(first + column * BOXES)
                    )
                rope = rope_boxes.index((stage * 2 + PART) * BOXES + box)
                tma.async_copy_global_to_shared(k_desc, [row, 512], bar, rope)


@gluon.jit
def _scores(buffers, k_ready, step, PART: gl.constexpr, STAGES: gl.constexpr):
    """Issue q @ k^T of this warpgroup's 32 rows of a step, once they are there: three products."""
    q_smem, q_rope, k_smem, k_rope = buffers
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 16])
    stage = step % STAGES
    mbarrier.wait(k_ready.index(stage), (step // STAGES) & 1)
    scores = gl.zeros([64, 32], gl.float32, layout)
    tile = stage * 2 + PART
    scores = warpgroup_mma(
        q_rope, k_rope.index(tile).permute((1, 0)), scores, use_acc=False, is_async=True
    )
    for half in gl.static_range(2):
        keys = k_smem.index(tile * 2 + half).permute((1, 0))
        scores = warpgroup_mma(q_smem.index(half), keys, scores, is_async=True)
    return scores


@gluon.jit
def _meet(bar, phase):
    """Wait until both warpgroups are here: what they wrote to shared memory is seen."""
    gl.thread_barrier()
    mbarrier.arrive(bar, count=1)
    mbarrier.wait(bar, phase)


@gluon.jit
def _weigh(
    scores, exchange, meetings, state, step, first_row, end, factor, PART: gl.constexpr
):  # fmt: skip
    """Softmax weights of a step into shared memory, and the accumulators shrunk to match."""
    weights_smem, tops_smem = exchange
    out, top, total = state
    layout: gl.constexpr = scores.type.layout
    ROW: gl.constexpr = gl.SliceLayout(1, layout)
    rows = first_row + gl.arange(0, 32, layout=gl.SliceLayout(0, layout))
    scores = gl.where((rows < end)[None, :], scores, float("-inf"))
    own_top = gl.max(scores, 1)
    tops_smem.index(PART).store(own_top)
    _meet(meetings[0], step & 1)
    # The first row of a step is always held, so the maximum of both parts is finite.
    new_top = gl.maximum(top, gl.maximum(own_top, tops_smem.index(1 - PART).load(ROW)))
    weights = gl.exp2(scores * factor - (new_top * factor)[:, None])
    shrink = gl.exp2((top - new_top) * factor)
    total = total * shrink + gl.sum(weights, 1)
    weights_smem.index(PART).store(weights.to(weights_smem.dtype))
    fence_async_shared()
    out = out * gl.convert_layout(shrink, gl.SliceLayout(1, out.type.layout))[:, None]
    _meet(meetings[1], step & 1)
    return out, new_top, total


@gluon.jit
def _add_values(weights_smem, k_smem, stage, out, PART: gl.constexpr):
    """Issue weights @ values, this warpgroup's half of the columns: two products."""
    for tile in gl.static_range(2):
        values = k_smem.index((stage * 2 + tile) * 2 + PART)
        out = warpgroup_mma(weights_smem.index(tile), values, out, is_async=True)
    return out


@gluon.jit
def _clear_tail(k_smem, stage, num_held, PART: gl.constexpr):
    """Zeros for the slots behind the sequence: they may hold NaN, and 0 * NaN is NaN."""
    THREADS: gl.constexpr = gl.BlockedLayout([1, 8], [1, 32], [4, 1], [1, 0])
    slots = gl.arange(0, 32, layout=gl.SliceLayout(1, THREADS))
    for tile in gl.static_range(2):
        values_smem = k_smem.index((stage * 2 + tile) * 2 + PART)
        values = values_smem.load(THREADS)
        held = slots + tile * 32 < num_held
        values_smem.store(gl.where(held[:, None], values, gl.zeros_like(values)))
    fence_async_shared()
    gl.thread_barrier()


@gluon.jit
def _attend(
    PART: gl.constexpr, buffers, bars, exchange, seq_lens_ptr, results, num_heads, factor,
    SPLIT_SIZE: gl.constexpr, PAGE: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """A warpgroup: columns [256 * PART, + 256) of the result of 64 heads over one split."""
    k_smem = buffers[2]
    q_ready, k_ready, k_empty, tops_met, weights_met = bars
    weights_smem, tops_smem = exchange
    meetings = (tops_met, weights_met)
    out_ptr, lse_ptr, partial_ptr, partial_lse_ptr, stride_seq, stride_head, max_splits = results
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 256, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    O_ROW: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    seq_len, begin, end = _range_of(seq_lens_ptr, SPLIT_SIZE)
    seq, split = gl.program_id(2), gl.program_id(1)
    first_head = gl.program_id(0) * 64
    heads = first_head + gl.arange(0, 64, layout=O_ROW)
    dims = PART * 256 + gl.arange(0, 256, layout=gl.SliceLayout(0, O_LAYOUT))
    out_place = out_ptr + seq.to(gl.int64) * stride_seq
    out_place = out_place + heads[:, None] * stride_head + dims[None, :]
    lse_heads = first_head + gl.arange(0, 64, layout=ROW)
    lse_place = lse_ptr + seq.to(gl.int64) * num_heads + lse_heads
    if begin < end:
        out = gl.zeros([64, 256], gl.float32, O_LAYOUT)
        top = gl.full([64], float("-inf"), gl.float32, ROW)
        total = gl.zeros([64], gl.float32, ROW)
        num_steps = gl.cdiv(end - begin, 64)
        mbarrier.wait(q_ready, 0)
        scores = _scores(buffers, k_ready, 0, PART, STAGES)
        scores = warpgroup_mma_wait(0, deps=[scores])
        for step in range(num_steps - 1):
            stage = step % STAGES
            out, top, total = _weigh(
                scores, exchange, meetings, (out, top, total), step,
                begin + step * 64 + PART * 32, end, factor, PART,
            )  # fmt: skip
            out = _add_values(weights_smem, k_smem, stage, out, PART)
            scores = _scores(buffers, k_ready, step + 1, PART, STAGES)
            out = warpgroup_mma_wait(3, deps=[out])
            gl.thread_barrier()
            mbarrier.arrive(k_empty.index(stage), count=1)
            scores = warpgroup_mma_wait(0, deps=[scores])
        step = num_steps - 1
        stage = step % STAGES
        if (end == seq_len) & (seq_len % PAGE != 0):
            _clear_tail(k_smem, stage, end - begin - step * 64, PART)
        out, top, total = _weigh(
            scores, exchange, meetings, (out, top, total), step,
            begin + step * 64 + PART * 32, end, factor, PART,
        )  # fmt: skip
        out = _add_values(weights_smem, k_smem, stage, out, PART)
        tops_smem.index(PART).store(total)
        out = warpgroup_mma_wait(0, deps=[out])
        _meet(tops_met, num_steps & 1)
        total = total + tops_smem.index(1 - PART).load(ROW)

        out = out * (1.0 / gl.convert_layout(total, O_ROW))[:, None]
        log = top * factor + gl.log2(total)
        mask = (heads < num_heads)[:, None]
        if seq_len <= SPLIT_SIZE:
            gl.store(out_place, out.to(out_ptr.dtype.element_ty), mask=mask)
            if PART == 0:
                gl.store(lse_place, log * 0.6931471805599453, mask=lse_heads < num_heads)
        else:
            place = (seq.to(gl.int64) * max_splits + split) * num_heads
            partial = partial_ptr + (place + heads)[:, None] * 512 + dims[None, :]
            gl.store(partial, out, mask=mask)
            if PART == 0:
                place = partial_lse_ptr + place + lse_heads
                gl.store(place, log, mask=lse_heads < num_heads)
    elif split == 0:
        zeros = gl.zeros([64, 256], out_ptr.dtype.element_ty, O_LAYOUT)
        gl.store(out_place, zeros, mask=(heads < num_heads)[:, None])
        if PART == 0:
            nothing = gl.full([64], float("-inf"), gl.float32, ROW)
            gl.store(lse_place, nothing, mask=lse_heads < num_heads)


@gluon.jit(do_not_specialize=["num_heads", "stride_tables", "max_splits", "no_row", "block_rows"])
def _split_kernel(
    q_desc,
    k_desc,
    tables_ptr,
    seq_lens_ptr,
    out_ptr,
    lse_ptr,
    partial_ptr,
    partial_lse_ptr,
    factor,
    num_heads,
    stride_tables,
    stride_out_seq,
    stride_out_head,
    max_splits,
    no_row,
    block_rows,
    SPLIT_SIZE: gl.constexpr,
    PAGE: gl.constexpr,
    ROWS: gl.constexpr,
    STAGES: gl.constexpr,
    LAYOUT: gl.constexpr,
    WEIGHTS_LAYOUT: gl.constexpr,
):
    """Shared memory (225 KiB) and barriers, then everyone to work.

    `ready` barriers are passed once the bytes of a stage are there, of both warps that load,
    `empty` ones once both warpgroups have read them; these meet at the other two. What is written
    is what the kernel of this name in mla_decode.py writes.
    """
    DTYPE: gl.constexpr = q_desc.dtype
    q_smem = gl.allocate_shared_memory(DTYPE, [2, 64, 256], LAYOUT)
    q_rope = gl.allocate_shared_memory(DTYPE, [64, 64], LAYOUT)
    k_smem = gl.allocate_shared_memory(DTYPE, [STAGES * 4, 32, 256], LAYOUT)
    k_rope = gl.allocate_shared_memory(DTYPE, [STAGES * 2, 32, 64], LAYOUT)
    weights_smem = gl.allocate_shared_memory(DTYPE, [2, 64, 32], WEIGHTS_LAYOUT)
    tops_smem = gl.allocate_shared_memory(
        gl.float32, [2, 64], gl.SwizzledSharedLayout(1, 1, 1, [0])
    )
    q_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    tops_met = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    weights_met = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(q_ready, count=1)
    mbarrier.init(tops_met, count=2)
    mbarrier.init(weights_met, count=2)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(stage), count=2)
        mbarrier.init(k_empty.index(stage), count=2)
    fence_async_shared()

    buffers = (q_smem, q_rope, k_smem, k_rope)
    bars = (q_ready, k_ready, k_empty, tops_met, weights_met)
    exchange = (weights_smem, tops_smem)
    results = (
        out_ptr, lse_ptr, partial_ptr, partial_lse_ptr, stride_out_seq, stride_out_head, max_splits,
    )  # fmt: skip
    gl.warp_specialize(
        [
            (
                _attend,
                (
                    0, buffers, bars, exchange, seq_lens_ptr, results, num_heads, factor,
                    SPLIT_SIZE, PAGE, STAGES,
                ),
            ),
            (
                _attend,
                (
                    1, buffers, bars, exchange, seq_lens_ptr, results, num_heads, factor,
                    SPLIT_SIZE, PAGE, STAGES,
                ),
            ),
            (
                _load,
                (
                    0, (q_desc, k_desc), buffers, bars, seq_lens_ptr,
                    (tables_ptr, stride_tables), num_heads, (no_row, block_rows), SPLIT_SIZE, PAGE,
                    ROWS, STAGES,
                ),
            ),
            (
                _load,
                (
                    1, (q_desc, k_desc), buffers, bars, seq_lens_ptr,
                    (tables_ptr, stride_tables), num_heads, (no_row, block_rows), SPLIT_SIZE, PAGE,
                    ROWS, STAGES,
                ),
            ),
        ],
        [4, 1, 1],
        [240, 24, 24],
    )  # fmt: skip


def launch_splits(
    query: Tensor,
    latent_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    out: Tensor,
    lse: Tensor,
    partial: Tensor,
    partial_lse: Tensor,
    factor: float,
    max_splits: int,
    config: HopperMlaDecode,
) -> None:
    """Launch with a program for 64 heads of each split. partial: empty if there is one split."""
    num_seqs, num_heads, key_dim = query.shape
    q_desc = TensorDescriptor(query, [num_seqs * num_heads, key_dim], [key_dim, 1], [64, 64], TILE)
    k_desc = TensorDescriptor(
        latent_cache, [config.num_rows, key_dim], [config.row_stride, 1], [config.rows, 64], TILE
    )
    _split_kernel[(-(-num_heads // BLOCK_H), max_splits, num_seqs)](
        q_desc,
        k_desc,
        block_tables,
        seq_lens,
        out,
        lse,
        partial,
        partial_lse,
        factor,
        num_heads,
        block_tables.stride(0),
        out.stride(0),
        out.stride(1),
        max_splits,
        config.num_rows,
        config.block_rows,
        SPLIT_SIZE=config.split_size,
        PAGE=latent_cache.shape[1],
        ROWS=config.rows,
        STAGES=2,
        LAYOUT=TILE,
        WEIGHTS_LAYOUT=WEIGHTS,
        num_warps=4,
        maxnreg=168,
    )
