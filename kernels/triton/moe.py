"""Grouped products of a mixture of experts: gate, up and activation; then down."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..dispatch import gpu_of
from ..launch.moe import MoeConfig, moe_config
from ..launch.tile_config import TileConfig
from ..moe_routing import TokenPermutation, permute_tokens
from ..quantize_rows import quantize_rows
from .moe_slots import add_slots
from .quick_launch import dependent_launch
from .tile_dot import add_product, empty_sums
from .tile_loads import describe_rows, fits_tma, load_tile, with_dense_rows
from .tile_order import tile_of_program


@triton.jit
def _scaled(sums, x_scale_ptr, x_rows, x_mask, weight_scale_ptr, weight_rows, weight_mask):
    """sums * x_scale of its row * weight_scale of its column, in fp32."""
    x_scale = tl.load(x_scale_ptr + x_rows, mask=x_mask, other=0.0)
    weight_scale = tl.load(weight_scale_ptr + weight_rows, mask=weight_mask, other=0.0)
    return sums.to(tl.float32) * x_scale[:, None] * weight_scale[None, :]


@triton.jit(do_not_specialize=["num_pairs", "max_blocks"])
def _gate_up_kernel(
    x_ptr,
    weight,
    x_scale_ptr,
    weight_scale_ptr,
    sorted_pairs_ptr,
    expert_of_block_ptr,
    out_ptr,
    num_pairs,
    max_blocks,
    num_weight_rows,
    inner,
    dim,
    stride_x,
    stride_weight,
    TOP_K: tl.constexpr,
    SCALED: tl.constexpr,
    SUM_DTYPE: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    SWAP: tl.constexpr,
    GROUP_M: tl.constexpr,
    IMPRECISE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[place, n] = silu(x . gate[n]) * (x . up[n]), x the token of the place, of its expert.

    weight is all experts' rows, [num_experts * 2 * inner, dim]: gate rows, then up rows, of each.
    The activation never leaves the registers before it is one.
    """
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
    tokens = pairs // TOP_K
    k = tl.arange(0, BLOCK_K)
    x_rows = x_ptr + tokens[:, None].to(tl.int64) * stride_x + k[None, :]
    gate_row = expert * 2 * inner + tile_n * BLOCK_N
    up_row = gate_row + inner

    gate = empty_sums(SWAP, BLOCK_M, BLOCK_N, SUM_DTYPE)
    up = empty_sums(SWAP, BLOCK_M, BLOCK_N, SUM_DTYPE)
    for start in range(0, dim, BLOCK_K):
        mask = is_pair[:, None]
        if not EVEN_K:
            mask = mask & (start + k < dim)[None, :]
        x = tl.load(x_rows + start, mask=mask, other=0.0)
        gate_tile = load_tile(
            weight, gate_row, start, num_weight_rows, dim, stride_weight,
            TMA, EVEN_K, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        gate = add_product(x, gate_tile, gate, SWAP, SUM_DTYPE, IMPRECISE)
        up_tile = load_tile(
            weight, up_row, start, num_weight_rows, dim, stride_weight,
            TMA, EVEN_K, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        up = add_product(x, up_tile, up, SWAP, SUM_DTYPE, IMPRECISE)
    if SWAP:
        gate = gate.T
        up = up.T

    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    is_column = columns < inner
    if SCALED:
        rows = expert * 2 * inner + columns
        gate = _scaled(gate, x_scale_ptr, tokens, is_pair, weight_scale_ptr, rows, is_column)
        up = _scaled(up, x_scale_ptr, tokens, is_pair, weight_scale_ptr, rows + inner, is_column)
    activated = gate / (1.0 + tl.exp(-gate)) * up
    offsets = places[:, None].to(tl.int64) * inner + columns[None, :]
    # Places without a pair get zeros: they are part of the tiles that come next.
    tl.store(out_ptr + offsets, activated.to(out_ptr.dtype.element_ty), mask=is_column[None, :])


@triton.jit(do_not_specialize=["num_pairs", "max_blocks"])
def _down_kernel(
    x,
    weight,
    x_scale_ptr,
    weight_scale_ptr,
    topk_weights_ptr,
    sorted_pairs_ptr,
    expert_of_block_ptr,
    out_ptr,
    num_pairs,
    max_blocks,
    num_weight_rows,
    dim,
    inner,
    stride_weight,
    SCALED: tl.constexpr,
    SUM_DTYPE: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    TMA_X: tl.constexpr,
    SWAP: tl.constexpr,
    GROUP_M: tl.constexpr,
    IMPRECISE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[pair, n] = topk_weight[pair] * (x[place] . down[n]) of the place's expert.

    x: [places, inner], sorted by expert as `_gate_up_kernel` leaves it; weight:
    [num_experts * dim, inner].
    """
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
    first_row = expert * dim + tile_n * BLOCK_N

    sums = empty_sums(SWAP, BLOCK_M, BLOCK_N, SUM_DTYPE)
    for start in range(0, inner, BLOCK_K):
        x_tile = load_tile(
            x, tile_m * BLOCK_M, start, max_blocks * BLOCK_M, inner, inner,
            TMA_X, EVEN_K, BLOCK_M, BLOCK_K,
        )  # fmt: skip
        tile = load_tile(
            weight, first_row, start, num_weight_rows, inner, stride_weight,
            TMA, EVEN_K, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        sums = add_product(x_tile, tile, sums, SWAP, SUM_DTYPE, IMPRECISE)
    if SWAP:
        sums = sums.T

    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    is_column = columns < dim
    if SCALED:
        rows = expert * dim + columns
        sums = _scaled(sums, x_scale_ptr, places, is_pair, weight_scale_ptr, rows, is_column)
    result = sums * tl.load(topk_weights_ptr + pairs, mask=is_pair, other=0.0)[:, None]
    offsets = pairs[:, None].to(tl.int64) * dim + columns[None, :]
    mask = is_pair[:, None] & is_column[None, :]
    tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), mask=mask)


def moe_mlp(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    topk_weights: Tensor,
    topk_ids: Tensor,
    gate_up_scale: Tensor | None,
    down_scale: Tensor | None,
    config: MoeConfig | None = None,
) -> Tensor:
    """See `shoal.kernels.moe`; `config` replaces the launch choice, for measurements."""
    num_tokens, dim = x.shape
    num_experts, _, inner = down.shape
    top_k = topk_ids.shape[1]
    if config is None:
        config = moe_config(
            num_tokens=num_tokens,
            top_k=top_k,
            num_experts=num_experts,
            weight_bytes=gate_up.element_size(),
            gpu=gpu_of(x.device),
        )
    topk_ids, topk_weights = topk_ids.contiguous(), topk_weights.contiguous()
    permutation = permute_tokens(topk_ids, num_experts=num_experts, block_m=config.gate_up.block_m)
    num_places = permutation.sorted_pairs.numel()
    x_scale = activated_scale = None
    codes = x
    if gate_up_scale is not None:
        codes, x_scale = quantize_rows(x, dtype=gate_up.dtype)
    # Blocks without an expert are never written, nor read but by `quantize_rows`; numpy, which
    # interprets kernels on a CPU, warns of the NaN that may lie there.
    new = torch.empty if x.is_cuda else torch.zeros
    activated = new(num_places, inner, dtype=x.dtype, device=x.device)
    _gate_up(codes, gate_up, permutation, activated, top_k, x_scale, gate_up_scale, config.gate_up)
    if down_scale is not None:
        activated, activated_scale = quantize_rows(activated, dtype=down.dtype)
    partial = torch.empty(num_tokens * top_k, dim, dtype=x.dtype, device=x.device)
    _down(
        activated, down, permutation, partial, topk_weights, activated_scale, down_scale,
        config.down,
    )  # fmt: skip
    return add_slots(partial, topk_ids, num_experts=num_experts)


def _gate_up(
    x: Tensor,
    gate_up: Tensor,
    permutation: TokenPermutation,
    out: Tensor,
    top_k: int,
    x_scale: Tensor | None,
    weight_scale: Tensor | None,
    config: TileConfig,
) -> None:
    x = with_dense_rows(x)
    num_experts, two_inner, dim = gate_up.shape
    weight = with_dense_rows(gate_up).reshape(num_experts * two_inner, dim)
    inner = two_inner // 2
    max_blocks = permutation.expert_of_block.numel()
    tma = config.tma and fits_tma(weight)
    _gate_up_kernel[(max_blocks * triton.cdiv(inner, config.block_n),)](
        x,
        describe_rows(weight, config.block_n, config.block_k) if tma else weight,
        x if x_scale is None else x_scale,
        x if weight_scale is None else weight_scale.contiguous(),
        permutation.sorted_pairs,
        permutation.expert_of_block,
        out,
        permutation.num_pairs,
        max_blocks,
        weight.shape[0],
        inner,
        dim,
        x.stride(0),
        weight.stride(0),
        TOP_K=top_k,
        SCALED=weight_scale is not None,
        **_constants(config, weight, dim, tma),
    )


def _down(
    x: Tensor,
    down: Tensor,
    permutation: TokenPermutation,
    out: Tensor,
    topk_weights: Tensor,
    x_scale: Tensor | None,
    weight_scale: Tensor | None,
    config: TileConfig,
) -> None:
    num_experts, dim, inner = down.shape
    weight = with_dense_rows(down).reshape(num_experts * dim, inner)
    max_blocks = permutation.expert_of_block.numel()
    tma = config.tma and fits_tma(weight)
    tma_x = config.tma_x and fits_tma(x)
    _down_kernel[(max_blocks * triton.cdiv(dim, config.block_n),)](
        describe_rows(x, config.block_m, config.block_k) if tma_x else x,
        describe_rows(weight, config.block_n, config.block_k) if tma else weight,
        x if x_scale is None else x_scale,
        x if weight_scale is None else weight_scale.contiguous(),
        topk_weights,
        permutation.sorted_pairs,
        permutation.expert_of_block,
        out,
        permutation.num_pairs,
        max_blocks,
        weight.shape[0],
        dim,
        inner,
        weight.stride(0),
        SCALED=weight_scale is not None,
        TMA_X=tma_x,
        **_constants(config, weight, inner, tma),
    )


def _constants(config: TileConfig, weight: Tensor, summed_dim: int, tma: bool) -> dict[str, object]:
    """What both products are compiled for."""
    return {
        "SUM_DTYPE": tl.int32 if weight.dtype == torch.int8 else tl.float32,
        "EVEN_K": summed_dim % config.block_k == 0,
        "TMA": tma,
        "SWAP": config.swap,
        "GROUP_M": config.group_m,
        "IMPRECISE": config.imprecise,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "PDL": dependent_launch(weight.device),
        "launch_pdl": dependent_launch(weight.device),
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
