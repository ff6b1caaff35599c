"""The grouped products of a mixture of experts whose weights have 4 bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..dispatch import gpu_of
from ..int4_weight import BLOCK_ELEMENTS, BLOCK_WORDS, Int4Weight
from ..launch.moe import MoeConfig, moe_int4_config
from ..launch.tile_config import TileConfig
from ..moe_routing import TokenPermutation, permute_tokens
from .int4 import TRITON_DTYPES, add_int4_product, is_plain, load_groups
from .moe_slots import add_slots
from .quick_launch import dependent_launch
from .tile_loads import describe_rows, fits_tma, load_tile, with_dense_rows
from .tile_order import tile_of_program

_WORDS = tl.constexpr(BLOCK_WORDS)


@triton.jit(do_not_specialize=["num_pairs", "max_blocks"])
def _gate_up_int4_kernel(
    x_ptr,
    packed,
    scales_ptr,
    zeros_ptr,
    sorted_pairs_ptr,
    expert_of_block_ptr,
    out_ptr,
    num_pairs,
    max_blocks,
    num_weight_rows,
    num_groups,
    inner,
    dim,
    stride_x,
    stride_packed,
    TOP_K: tl.constexpr,
    FOLD: tl.constexpr,
    HAS_ZEROS: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[place, n] = silu(x . gate[n]) * (x . up[n]), as `_gate_up_kernel`, of 4-bit rows."""
    tile_m, tile_n = tile_of_program(
        tl.program_id(0), max_blocks * BLOCK_M, inner, BLOCK_M, BLOCK_N, GROUP_M
    )
    if PDL:
        gdc_wait()
    expert = tl.load(expert_of_block_ptr + tile_m)
    if expert < 0:
        return
    places = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    pairs = tl.load(sorted_pairs_ptr + places)
    is_pair = pairs < num_pairs
    tokens = tl.where(is_pair, pairs // TOP_K, 0)  # a place without a pair reads any
    x_rows = x_ptr + tokens[:, None].to(tl.int64) * stride_x
    x_rows += tl.arange(0, _WORDS)[None, :]
    gate_row = expert * 2 * inner + tile_n * BLOCK_N
    up_row = gate_row + inner
    gate_columns = gate_row + tl.arange(0, BLOCK_N)
    up_columns = up_row + tl.arange(0, BLOCK_N)
    num_blocks = tl.cdiv(dim, 4 * _WORDS)

    gate = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    up = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    # As in `_w4a16_matmul_kernel`, scales and zeros come one block ahead of their use.
    gate_scales = load_groups(
        scales_ptr, 0, gate_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
    )
    up_scales = load_groups(scales_ptr, 0, up_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N)
    gate_zeros = gate_scales
    up_zeros = up_scales
    if HAS_ZEROS:
        gate_zeros = load_groups(
            zeros_ptr, 0, gate_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
        up_zeros = load_groups(
            zeros_ptr, 0, up_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
    for block in range(num_blocks):
        gate_words = load_tile(
            packed, gate_row, block * _WORDS, num_weight_rows, num_blocks * _WORDS, stride_packed,
            TMA, True, BLOCK_N, _WORDS,
        )  # fmt: skip
        up_words = load_tile(
            packed, up_row, block * _WORDS, num_weight_rows, num_blocks * _WORDS, stride_packed,
            TMA, True, BLOCK_N, _WORDS,
        )  # fmt: skip
        next_gate_scales = load_groups(
            scales_ptr, block + 1, gate_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
        next_up_scales = load_groups(
            scales_ptr, block + 1, up_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
        if HAS_ZEROS:
            next_gate_zeros = load_groups(
                zeros_ptr, block + 1, gate_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
            )
            next_up_zeros = load_groups(
                zeros_ptr, block + 1, up_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
            )
        gate = add_int4_product(
            gate_words, gate_scales, gate_zeros, x_rows, 0, block * 4 * _WORDS, dim, gate,
            False, EVEN_K, FOLD, HAS_ZEROS, GROUPS, DTYPE, PLAIN, BLOCK_M, BLOCK_N,
        )  # fmt: skip
        up = add_int4_product(
            up_words, up_scales, up_zeros, x_rows, 0, block * 4 * _WORDS, dim, up,
            False, EVEN_K, FOLD, HAS_ZEROS, GROUPS, DTYPE, PLAIN, BLOCK_M, BLOCK_N,
        )  # fmt: skip
        gate_scales = next_gate_scales
        up_scales = next_up_scales
        if HAS_ZEROS:
            gate_zeros = next_gate_zeros
            up_zeros = next_up_zeros

    activated = (gate / (1.0 + tl.exp(-gate)) * up).T
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    offsets = places[:, None].to(tl.int64) * inner + columns[None, :]
    # Also where there is no pair: those places are part of the tiles that come next.
    mask = (columns < inner)[None, :]
    tl.store(out_ptr + offsets, activated.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_pairs", "max_blocks"])
def _down_int4_kernel(
    x_ptr,
    packed,
    scales_ptr,
    zeros_ptr,
    topk_weights_ptr,
    sorted_pairs_ptr,
    expert_of_block_ptr,
    out_ptr,
    num_pairs,
    max_blocks,
    num_weight_rows,
    num_groups,
    dim,
    inner,
    stride_packed,
    FOLD: tl.constexpr,
    HAS_ZEROS: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[pair, n] = topk_weight[pair] * (x[place] . down[n]), as `_down_kernel`, of 4-bit rows."""
    tile_m, tile_n = tile_of_program(
        tl.program_id(0), max_blocks * BLOCK_M, dim, BLOCK_M, BLOCK_N, GROUP_M
    )
    if PDL:
        gdc_wait()
    expert = tl.load(expert_of_block_ptr + tile_m)
    if expert < 0:
        return
    places = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    pairs = tl.load(sorted_pairs_ptr + places)
    is_pair = pairs < num_pairs
    x_rows = x_ptr + places[:, None].to(tl.int64) * inner + tl.arange(0, _WORDS)[None, :]
    first_row = expert * dim + tile_n * BLOCK_N
    weight_columns = first_row + tl.arange(0, BLOCK_N)
    num_blocks = tl.cdiv(inner, 4 * _WORDS)

    sums = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    scales = load_groups(
        scales_ptr, 0, weight_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
    )
    zeros = scales
    if HAS_ZEROS:
        zeros = load_groups(
            zeros_ptr, 0, weight_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
    for block in range(num_blocks):
        words = load_tile(
            packed, first_row, block * _WORDS, num_weight_rows, num_blocks * _WORDS, stride_packed,
            TMA, True, BLOCK_N, _WORDS,
        )  # fmt: skip
        next_scales = load_groups(
            scales_ptr, block + 1, weight_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
        )
        if HAS_ZEROS:
            next_zeros = load_groups(
                zeros_ptr, block + 1, weight_columns, num_groups, num_weight_rows, GROUPS, BLOCK_N
            )
        sums = add_int4_product(
            words, scales, zeros, x_rows, 0, block * 4 * _WORDS, inner, sums,
            False, EVEN_K, FOLD, HAS_ZEROS, GROUPS, DTYPE, PLAIN, BLOCK_M, BLOCK_N,
        )  # fmt: skip
        scales = next_scales
        if HAS_ZEROS:
            zeros = next_zeros

    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    result = sums.T * tl.load(topk_weights_ptr + pairs, mask=is_pair, other=0.0)[:, None]
    offsets = pairs[:, None].to(tl.int64) * dim + columns[None, :]
    mask = is_pair[:, None] & (columns < dim)[None, :]
    tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), mask=mask)


def moe_mlp_int4(
    x: Tensor,
    gate_up: Int4Weight,
    down: Int4Weight,
    topk_weights: Tensor,
    topk_ids: Tensor,
    config: MoeConfig | None = None,
) -> Tensor:
    """See `shoal.kernels.moe_int4`; `config` replaces the launch choice, for measurements."""
    num_tokens, dim = x.shape
    inner, top_k = down.dim, topk_ids.shape[1]
    num_experts = down.out_dim // dim
    if config is None:
        config = moe_int4_config(
            num_tokens=num_tokens, top_k=top_k, num_experts=num_experts, gpu=gpu_of(x.device)
        )
    topk_ids, topk_weights = topk_ids.contiguous(), topk_weights.contiguous()
    permutation = permute_tokens(topk_ids, num_experts=num_experts, block_m=config.gate_up.block_m)
    num_places = permutation.sorted_pairs.numel()
    activated = torch.empty(num_places, inner, dtype=x.dtype, device=x.device)
    _gate_up_int4(x, gate_up, permutation, activated, top_k, config.gate_up)
    partial = torch.empty(num_tokens * top_k, dim, dtype=x.dtype, device=x.device)
    _down_int4(activated, down, permutation, partial, topk_weights, config.down)
    return add_slots(partial, topk_ids, num_experts=num_experts)


def _gate_up_int4(
    x: Tensor,
    weight: Int4Weight,
    permutation: TokenPermutation,
    out: Tensor,
    top_k: int,
    config: TileConfig,
) -> None:
    """Write the activation of each place to out [places, inner]."""
    x, packed = with_dense_rows(x), with_dense_rows(weight.packed)
    max_blocks, inner = permutation.expert_of_block.numel(), out.shape[1]
    tma = config.tma and fits_tma(packed)
    _gate_up_int4_kernel[(max_blocks * triton.cdiv(inner, config.block_n),)](
        x,
        describe_rows(packed, config.block_n, BLOCK_WORDS) if tma else packed,
        weight.scales,
        weight.scales if weight.zeros is None else weight.zeros,
        permutation.sorted_pairs,
        permutation.expert_of_block,
        out,
        permutation.num_pairs,
        max_blocks,
        weight.out_dim,
        weight.scales.shape[0],
        inner,
        weight.dim,
        x.stride(0),
        packed.stride(0),
        TOP_K=top_k,
        **_constants(x, weight, config, tma),
    )


def _down_int4(
    x: Tensor,
    weight: Int4Weight,
    permutation: TokenPermutation,
    out: Tensor,
    topk_weights: Tensor,
    config: TileConfig,
) -> None:
    """Write the weighted result of each pair to out [pairs, dim]."""
    packed = with_dense_rows(weight.packed)
    max_blocks, dim = permutation.expert_of_block.numel(), out.shape[1]
    tma = config.tma and fits_tma(packed)
    _down_int4_kernel[(max_blocks * triton.cdiv(dim, config.block_n),)](
        x,
        describe_rows(packed, config.block_n, BLOCK_WORDS) if tma else packed,
        weight.scales,
        weight.scales if weight.zeros is None else weight.zeros,
        topk_weights,
        permutation.sorted_pairs,
        permutation.expert_of_block,
        out,
        permutation.num_pairs,
        max_blocks,
        weight.out_dim,
        weight.scales.shape[0],
        dim,
        weight.dim,
        packed.stride(0),
        **_constants(x, weight, config, tma),
    )


def _constants(x: Tensor, weight: Int4Weight, config: TileConfig, tma: bool) -> dict[str, object]:
    """What both products are compiled for."""
    return {
        "FOLD": config.fold_scales,
        "HAS_ZEROS": weight.zeros is not None,
        "GROUPS": BLOCK_ELEMENTS // weight.group_size,
        "DTYPE": TRITON_DTYPES[x.dtype],
        "PLAIN": is_plain(x.device),
        "EVEN_K": weight.dim % BLOCK_ELEMENTS == 0,
        "TMA": tma,
        "GROUP_M": config.group_m,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "PDL": dependent_launch(x.device),
        "launch_pdl": dependent_launch(x.device),
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
