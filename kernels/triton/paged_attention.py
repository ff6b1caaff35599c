"""Triton body of `kernels.paged_attention`: each program takes items of a plan.

The keys of a split stream through an online softmax (Milakov and Gimelshein, 2018; FlashAttention,
Dao et al., 2022); the query heads of a KV head's group are rows of one matrix product. A tile with
one split writes its result; several leave partial results, which a second kernel merges (see
merge_splits).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ..attention_plan import ITEM as _ITEM
from ..attention_plan import AttentionPlan, TilePlan, plan_attention
from ..dispatch import gpu_of
from ..kv_quantization import is_quantized, scales_are_per_token
from ..launch.paged_attention import MAX_DECODE_TOKENS, TileLaunch, chunk_launch, decode_launch
from ..ragged_batch import RaggedBatch
from .merge_splits import merge_splits
from .narrow_pairs import even_codes, odd_codes
from .quick_launch import QuickLaunch, dependent_launch

LOG2_E = 1.4426950408889634
ITEM = tl.constexpr(_ITEM)


def ragged_paged_attention_triton(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    out: Tensor,
    lse: Tensor | None,
    plan: AttentionPlan | None,
) -> None:
    """Run the kernels of a step's plan; see `kernels.paged_attention`."""
    if not query.shape[0] or not batch.num_reqs:
        return
    if plan is None:
        plan = plan_attention(
            batch,
            num_q_heads=query.shape[1],
            key_cache=key_cache,
            plain=softcap is None and sinks is None,
        )
    if any(tiles.num_kv_heads != key_cache.shape[2] for tiles in plan.tiles):
        raise ValueError(
            "ragged_paged_attention: the plan was made for a cache with another number of heads"
        )
    if plan.prefill_min_query_len is not None:
        if softcap is not None or sinks is not None:
            raise ValueError(
                "ragged_paged_attention: a plan for layers with a soft-cap or sinks is made with"
                " plain=False"
            )
        from ..prefill_attention import prefill_attention

        prefill_attention(
            query, key_cache, value_cache, batch,
            scale=scale, min_query_len=plan.prefill_min_query_len, out=out, lse=lse,
        )  # fmt: skip
    for tiles in plan.tiles:
        attend_tiles(
            query, key_cache, value_cache, batch, tiles,
            scale=scale, softcap=softcap, sinks=sinks, k_scale=k_scale, v_scale=v_scale,
            out=out, lse=lse,
        )  # fmt: skip


def attend_tiles(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    plan: TilePlan,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    out: Tensor,
    lse: Tensor | None,
    launch: TileLaunch | None = None,
) -> None:
    """The attention of the requests in one tile plan: a kernel, and one that merges splits."""
    _, block_size, num_kv_heads, head_dim = key_cache.shape
    num_q_heads = query.shape[1]
    group = num_q_heads // num_kv_heads
    gpu = gpu_of(query.device)
    if launch is None:
        choose = decode_launch if plan.shape.max_query_len <= MAX_DECODE_TOKENS else chunk_launch
        launch = choose(
            gpu,
            group=group,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            kv_bytes=key_cache.element_size(),
            max_items=plan.items.shape[0],
        )
    narrow = is_quantized(key_cache.dtype)
    is_fp8 = key_cache.dtype == torch.float8_e4m3fn
    keys, values = key_cache, value_cache
    if narrow:
        if head_dim % 2:
            raise ValueError(f"ragged_paged_attention: head_dim {head_dim} of 8-bit codes is odd")
        keys, values = key_cache.view(torch.int16), value_cache.view(torch.int16)
    rows = plan.max_partial_rows
    partial = query.new_empty((rows, num_q_heads, head_dim), dtype=torch.float32)
    partial_lse = query.new_empty((rows, num_q_heads), dtype=torch.float32)
    unused = partial_lse
    # The softmax works in powers of two.
    qk_scale = scale * LOG2_E if softcap is None else scale / softcap
    columns = head_dim // 2 if narrow else head_dim
    pdl = dependent_launch(query.device)
    _quick_paged_attention(
        (launch.num_programs,),
        out, unused if lse is None else lse, partial, partial_lse, query, keys, values,
        unused if k_scale is None else k_scale, unused if v_scale is None else v_scale,
        unused if sinks is None else sinks,
        plan.items, batch.block_tables,
        qk_scale, 0.0 if softcap is None else softcap * LOG2_E, batch.sliding_window or 0,
        query.stride(0), query.stride(1), out.stride(0), out.stride(1),
        keys.stride(0), keys.stride(1), keys.stride(2),
        values.stride(0), values.stride(1), values.stride(2),
        *_scale_strides(k_scale), *_scale_strides(v_scale),
        batch.block_tables.stride(0),
        NUM_KV_HEADS=num_kv_heads,
        GROUP=group,
        HEAD_DIM=head_dim,
        BLOCK_D=triton.next_power_of_2(max(columns, 16)),
        BLOCK_SIZE=block_size,
        BLOCK_M=launch.block_m,
        BLOCK_N=launch.block_n,
        NARROW=narrow,
        IS_FP8=is_fp8,
        ASSEMBLY=narrow and query.is_cuda and (not is_fp8 or gpu.capability >= (8, 9)),
        K_SCALE=_scale_kind(k_scale),
        V_SCALE=_scale_kind(v_scale),
        HAS_SOFTCAP=softcap is not None,
        HAS_SINKS=sinks is not None,
        HAS_WINDOW=batch.sliding_window is not None,
        HAS_LSE=lse is not None,
        STAGES=launch.num_stages,
        PDL=pdl,
        num_warps=launch.num_warps,
        launch_pdl=pdl,
    )  # fmt: skip
    if rows:
        merge_splits(plan, partial, partial_lse, out, lse, launch.num_programs)


def _scale_kind(scale: Tensor | None) -> int:
    """0: none, 1: one a head, 2: one a token and head."""
    if scale is None:
        return 0
    return 2 if scales_are_per_token(scale) else 1


def _scale_strides(scale: Tensor | None) -> tuple[int, int, int]:
    """Elements from one block, slot and head to the next."""
    if scale is None:
        return 0, 0, 0
    if scales_are_per_token(scale):
        return scale.stride(0), scale.stride(1), scale.stride(2)
    return 0, 0, scale.stride(0)


@triton.jit
def _scale_tile(scale_ptr, block, slot, head, stride_b, stride_s, stride_h, held):
    return tl.load(
        scale_ptr + block * stride_b + slot * stride_s + head * stride_h, mask=held, other=0.0
    )


@triton.jit(do_not_specialize=["window"])
def _paged_attention_kernel(
    out_ptr, lse_ptr, partial_ptr, partial_lse_ptr, query_ptr, key_ptr, value_ptr,
    k_scale_ptr, v_scale_ptr, sinks_ptr, items_ptr, block_tables_ptr,
    qk_scale, softcap, window,
    stride_qt, stride_qh, stride_ot, stride_oh,
    stride_kb, stride_ks, stride_kh, stride_vb, stride_vs, stride_vh,
    stride_ksb, stride_kss, stride_ksh, stride_vsb, stride_vss, stride_vsh,
    stride_table,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    NARROW: tl.constexpr, IS_FP8: tl.constexpr, ASSEMBLY: tl.constexpr,
    K_SCALE: tl.constexpr, V_SCALE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr, HAS_WINDOW: tl.constexpr,
    HAS_LSE: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """softmax(scale * q @ k^T) @ v over the keys of an item, for item after item.

    A row m is query head m % GROUP of the KV head's group, of token m // GROUP of the tile. 8-bit
    codes come as words of two columns (see narrow_pairs): COLUMNS counts words, and every product
    is done for the even and for the odd columns.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    first_item = tl.program_id(0) // NUM_KV_HEADS
    num_work = tl.load(items_ptr + first_item * ITEM + 9) * NUM_KV_HEADS
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    offs_q = 2 * offs_d if NARROW else offs_d
    COLUMNS: tl.constexpr = HEAD_DIM // 2 if NARROW else HEAD_DIM
    EVEN_D: tl.constexpr = BLOCK_D == COLUMNS
    offs_o = tl.arange(0, 2 * BLOCK_D if NARROW else BLOCK_D)
    in_row = offs_d < COLUMNS

    for work in range(tl.program_id(0), num_work, tl.num_programs(0)):
        item_ptr = items_ptr + work // NUM_KV_HEADS * ITEM
        kv_head = work % NUM_KV_HEADS
        first_token = tl.load(item_ptr)
        num_tokens = tl.load(item_ptr + 1)
        first_position = tl.load(item_ptr + 2)
        first_key = tl.load(item_ptr + 3)
        end_key = tl.load(item_ptr + 4)
        request = tl.load(item_ptr + 5)
        partial_row = tl.load(item_ptr + 6)
        split = tl.load(item_ptr + 7)

        token = offs_m // GROUP
        q_head = kv_head * GROUP + offs_m % GROUP
        # Rows beyond the last whole token of the tile are padding.
        row_held = token < num_tokens
        position = first_position + token
        row = first_token + token
        q_ptrs = query_ptr + (row.to(tl.int64) * stride_qt + q_head * stride_qh)[:, None]
        q_mask = row_held[:, None] if EVEN_D else row_held[:, None] & in_row[None, :]
        q = tl.load(q_ptrs + offs_q[None, :], mask=q_mask, other=0.0)
        if NARROW:
            # As the codes are. bf16 queries below 65,504 lose nothing of note.
            q = q.to(tl.float16)
            q_odd = tl.load(q_ptrs + offs_q[None, :] + 1, mask=q_mask, other=0.0).to(tl.float16)

        out_mask = row_held[:, None] & (offs_o < HEAD_DIM)[None, :]
        score_scale = qk_scale
        if K_SCALE == 1:
            score_scale *= tl.load(k_scale_ptr + kv_head * stride_ksh)

        largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
        if HAS_SINKS:
            # One more key without a value, in the first split alone.
            sink = tl.load(sinks_ptr + q_head, mask=row_held, other=0.0) * LOG2_E
            largest = tl.where(split == 0, sink, largest)
        # A small tile has its columns spread over warps: their sum waits until after the loop,
        # which saves its barriers; large tiles have their rows spread, and registers to save.
        LATE_SUM: tl.constexpr = BLOCK_M < 64
        totals = tl.zeros([BLOCK_M, BLOCK_N if LATE_SUM else 1], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        acc_odd = acc

        table_ptr = block_tables_ptr + request.to(tl.int64) * stride_table
        k_ptrs = key_ptr + kv_head.to(tl.int64) * stride_kh + offs_d[None, :]
        v_ptrs = value_ptr + kv_head.to(tl.int64) * stride_vh + offs_d[None, :]
        # Tiles of keys stand at the same positions whatever the first key: sums keep their order.
        for start in tl.range(first_key // BLOCK_N * BLOCK_N, end_key, BLOCK_N, num_stages=STAGES):
            key = start + offs_n
            held = (key >= first_key) & (key < end_key)
            tile_mask = held[:, None] if EVEN_D else held[:, None] & in_row[None, :]
            block = tl.load(table_ptr + key // BLOCK_SIZE, mask=held, other=0).to(tl.int64)
            slot = key % BLOCK_SIZE
            k = tl.load(
                k_ptrs + (block * stride_kb + slot * stride_ks)[:, None],
                mask=tile_mask, other=0 if NARROW else 0.0,
            )  # fmt: skip
            if NARROW:
                s = tl.dot(q, even_codes(k, IS_FP8, ASSEMBLY).T)
                s = tl.dot(q_odd, odd_codes(k, IS_FP8, ASSEMBLY).T, acc=s)
            else:
                s = tl.dot(q, k.T, input_precision="ieee")
            s *= score_scale
            if K_SCALE == 2:
                s *= _scale_tile(
                    k_scale_ptr, block, slot, kv_head, stride_ksb, stride_kss, stride_ksh, held
                )[None, :]
            if HAS_SOFTCAP:
                s = softcap * _tanh(s)
            visible = held[None, :] & (key[None, :] <= position[:, None])
            if HAS_WINDOW:
                visible &= key[None, :] > position[:, None] - window
            s = tl.where(visible, s, float("-inf"))

            new_largest = tl.maximum(largest, tl.max(s, axis=1))
            # A row that has seen no key yet: any finite maximum keeps its weights at zero.
            shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)
            p = tl.exp2(s - shift[:, None])
            decay = tl.exp2(largest - shift)
            totals = totals * decay[:, None] + (p if LATE_SUM else tl.sum(p, axis=1)[:, None])
            largest = new_largest
            v = tl.load(
                v_ptrs + (block * stride_vb + slot * stride_vs)[:, None],
                mask=tile_mask, other=0 if NARROW else 0.0,
            )  # fmt: skip
            if NARROW:
                if V_SCALE == 2:
                    v_scales = _scale_tile(
                        v_scale_ptr, block, slot, kv_head, stride_vsb, stride_vss, stride_vsh, held
                    )
                    # Relative to the tile's largest, so that weights keep fp16's precision.
                    most = tl.maximum(tl.max(v_scales, axis=0), 1e-37)
                    weights = (p * (v_scales / most)[None, :]).to(tl.float16)
                    even = tl.dot(weights, even_codes(v, IS_FP8, ASSEMBLY))
                    odd = tl.dot(weights, odd_codes(v, IS_FP8, ASSEMBLY))
                    acc = acc * decay[:, None] + even * most
                    acc_odd = acc_odd * decay[:, None] + odd * most
                else:
                    weights = p.to(tl.float16)
                    acc = acc * decay[:, None]
                    acc_odd = acc_odd * decay[:, None]
                    acc = tl.dot(weights, even_codes(v, IS_FP8, ASSEMBLY), acc=acc)
                    acc_odd = tl.dot(weights, odd_codes(v, IS_FP8, ASSEMBLY), acc=acc_odd)
            else:
                acc = acc * decay[:, None]
                acc = tl.dot(p.to(v.dtype), v, acc=acc, input_precision="ieee")

        total = tl.sum(totals, axis=1)
        if HAS_SINKS:
            total += tl.where(split == 0, tl.exp2(sink - largest), 0.0)
        # A row without keys has largest = -inf: its result is 0, its log-sum-exp -inf.
        total = tl.where(total > 0, total, 1.0)
        inverse = 1 / total
        if V_SCALE == 1:
            inverse *= tl.load(v_scale_ptr + kv_head * stride_vsh)
        if NARROW:
            acc = tl.interleave(acc, acc_odd)
        result = acc * inverse[:, None]
        row_lse = largest + tl.log2(total)
        if partial_row < 0:
            o_ptrs = out_ptr + (row.to(tl.int64) * stride_ot + q_head * stride_oh)[:, None]
            tl.store(o_ptrs + offs_o[None, :], result.to(out_ptr.dtype.element_ty), mask=out_mask)
            if HAS_LSE:
                lse_ptrs = lse_ptr + row.to(tl.int64) * (NUM_KV_HEADS * GROUP) + q_head
                tl.store(lse_ptrs, row_lse / LOG2_E, mask=row_held)
        else:
            place = (partial_row + token).to(tl.int64) * (NUM_KV_HEADS * GROUP) + q_head
            p_ptrs = partial_ptr + place[:, None] * HEAD_DIM + offs_o[None, :]
            tl.store(p_ptrs, result, mask=out_mask)
            tl.store(partial_lse_ptr + place, row_lse, mask=row_held)


@triton.jit
def _tanh(x):
    """tanh to a few units in the last place: an odd over an even polynomial, Eigen's coefficients.

    By an exponential alone its error would be that of numbers near 1, and the soft-cap times it.
    """
    x = tl.clamp(x, -7.905, 7.905)
    y = x * x
    p = -2.76076847742355e-16 * y + 2.00018790482477e-13
    p = p * y - 8.60467152213735e-11
    p = p * y + 5.12229709037114e-08
    p = p * y + 1.48572235717979e-05
    p = p * y + 6.37261928875436e-04
    p = p * y + 4.89352455891786e-03
    q = 1.19825839466702e-06 * y + 1.18534705686654e-04
    q = q * y + 2.26843463243900e-03
    q = q * y + 4.89352518554385e-03
    return x * p / q


_quick_paged_attention = QuickLaunch(_paged_attention_kernel)
