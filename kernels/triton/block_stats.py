"""The largest logit of every block of 256 tokens, and the weight of the block relative to it.

One read of the logits. All that follows (the best token, the draw of a block, bounds on what a
filter may keep, log_z) starts from these 1/128 of the bytes. However many rows there are, it is the
same program that reads a block, so its sum is added up in the same order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.sample import BLOCK, SampleConfig

HIGHEST = tl.constexpr(3.4028234663852886e38)


@triton.jit
def _block_stats_kernel(
    logits_ptr,
    temperature_ptr,
    maxima_ptr,
    sums_ptr,
    stride_row,
    vocab_size,
    num_blocks,
    HAS_TEMPERATURE: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """max_b = max(x), sum_b = sum(exp((x - max_b) / temperature)) over the tokens of block b.

    NaN counts as -inf and +inf as the highest finite number here; the sum of a block that holds
    either is negated (a sum is at least 1 where a block has any number).
    """
    num_chunks = tl.cdiv(num_blocks, BLOCKS)
    row = tl.program_id(0) // num_chunks
    chunk = tl.program_id(0) % num_chunks
    blocks = chunk * BLOCKS + tl.arange(0, BLOCKS)
    tokens = blocks[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    row_ptr = logits_ptr + row.to(tl.int64) * stride_row
    x = tl.load(row_ptr + tokens, mask=tokens < vocab_size, other=float("-inf")).to(tl.float32)
    is_broken = tl.max(((x != x) | (x == float("inf"))).to(tl.int32), 1) > 0
    x = tl.where(x != x, float("-inf"), tl.minimum(x, HIGHEST))
    scale = 1.4426950408889634  # log2(e)
    if HAS_TEMPERATURE:
        temperature = tl.load(temperature_ptr + row)
        # The sums of greedy rows are not used; below 1e-37 the reciprocal would be inf.
        scale = scale / tl.maximum(tl.where(temperature == 0.0, 1.0, temperature), 1e-37)
    maxima = tl.max(x, 1)
    above = tl.where(maxima == float("-inf"), 0.0, maxima)
    sums = tl.sum(tl.exp2((x - above[:, None]) * scale), 1)
    sums = tl.where(is_broken, -tl.maximum(sums, 1.0), sums)
    out = row.to(tl.int64) * num_blocks + blocks
    tl.store(maxima_ptr + out, maxima, mask=blocks < num_blocks)
    tl.store(sums_ptr + out, sums, mask=blocks < num_blocks)


def block_stats(
    logits: Tensor, temperature: Tensor | None, config: SampleConfig
) -> tuple[Tensor, Tensor]:
    """Maxima and sums of the blocks, each [num_rows, num_blocks] fp32; without a temperature 1."""
    num_rows, vocab_size = logits.shape
    num_blocks = triton.cdiv(vocab_size, BLOCK)
    # One memory each: Triton compiles other code for a pointer that is not aligned to 16 bytes.
    maxima, sums = (
        torch.empty(num_rows, num_blocks, dtype=torch.float32, device=logits.device)
        for _ in range(2)
    )
    grid = (num_rows * triton.cdiv(num_blocks, config.blocks_per_program),)
    _block_stats_kernel[grid](
        logits,
        temperature,
        maxima,
        sums,
        logits.stride(0),
        vocab_size,
        num_blocks,
        HAS_TEMPERATURE=temperature is not None,
        BLOCKS=config.blocks_per_program,
        BLOCK=BLOCK,
        num_warps=config.stats_warps,
    )
    return maxima, sums
