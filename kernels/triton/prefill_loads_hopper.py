"""The warps of Hopper's prefill attention that load, and which work each program takes.

See `prefill_attention_hopper`. Boxes beyond the last block are outside the tensor, and the copy
engine fills those with zeros.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma


@gluon.jit
def item_of(round_, num_programs):
    """Programs take items in order in one round, and in reverse order in the next."""
    program = gl.program_id(0)
    return round_ * num_programs + gl.where(round_ % 2 == 0, program, num_programs - 1 - program)


@gluon.jit
def work_of(item, schedule, NUM_HEADS: gl.constexpr, BLOCK_M: gl.constexpr):
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
def load(
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
        item = item_of(round_, num_programs)
        head, request, token, _rows, _position, seq_len, begin, end = work_of(
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
