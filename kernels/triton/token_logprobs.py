"""Log-probabilities in one pass over the logits and a look at the blocks that matter.

After `block_stats` a program a row takes log_z from the blocks, counts what is above the chosen
token in the blocks whose maximum is, and takes the best tokens one by one: the next one is in the
first block that has the best maximum left.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.sample import BLOCK, sample_config
from ..token_logprobs import TokenLogprobTensors
from .block_stats import block_stats
from .kept_blocks import list_blocks
from .sampled_row import load_logits, load_stats

_NOTHING = tl.constexpr(-(1 << 31))
"""The key below that of -inf: no token is left."""


@triton.jit
def _key_of(x):
    """An int32 in the order of the floats."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def _token_logprobs_kernel(
    logits_ptr,
    maxima_ptr,
    sums_ptr,
    token_ids_ptr,
    out_ids_ptr,
    logprobs_ptr,
    ranks_ptr,
    log_z_ptr,
    block_ids_ptr,
    stride_row,
    vocab_size,
    num_blocks,
    num_top,
    NUM_BLOCKS: tl.constexpr,
    TURN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """x[token] - log(sum(exp(x))) of the given token of one row and of its num_top best."""
    row = tl.program_id(0)
    row_ptr = logits_ptr + row.to(tl.int64) * stride_row
    out = row.to(tl.int64) * (1 + num_top)
    maxima, sums, best, is_broken = load_stats(
        maxima_ptr, sums_ptr, row, vocab_size, num_blocks, NUM_BLOCKS, BLOCK
    )
    total = tl.sum((sums * tl.exp(maxima - best)).to(tl.float64), 0)
    log_z = best + tl.log(total).to(tl.float32)
    log_z = tl.where(is_broken, float("nan"), log_z)
    tl.store(log_z_ptr + row, log_z)
    token = tl.load(token_ids_ptr + row)
    x = load_logits(row_ptr, token, vocab_size, is_broken)
    tl.store(out_ids_ptr + out, token)
    tl.store(logprobs_ptr + out, x - log_z)

    num_listed = list_blocks(block_ids_ptr, maxima > x, row, num_blocks, NUM_BLOCKS)
    tl.debug_barrier()
    above = tl.zeros([TURN, BLOCK], tl.int32)
    turn = num_listed * 0
    while turn < num_listed:
        places = turn + tl.arange(0, TURN)
        is_there = places < num_listed
        ids = tl.load(
            block_ids_ptr + row.to(tl.int64) * num_blocks + places, mask=is_there, other=0
        )
        tokens = tl.where(is_there, ids * BLOCK, vocab_size)[:, None] + tl.arange(0, BLOCK)[None, :]
        above += (load_logits(row_ptr, tokens, vocab_size, is_broken) > x).to(tl.int32)
        turn += TURN
    rank = tl.sum(tl.sum(above, 1), 0) + 1
    tl.store(ranks_ptr + row, rank.to(tl.int64))

    blocks = tl.arange(0, NUM_BLOCKS)
    left = tl.where(blocks < num_blocks, _key_of(maxima), _NOTHING)
    last_key = tl.max(left, 0)
    last_token = tl.argmax(left, 0) * 0 - 1
    place = rank * 0 + 1
    while place <= num_top:
        block = tl.argmax(left, 0)
        tokens = block * BLOCK + tl.arange(0, BLOCK)
        values = load_logits(row_ptr, tokens, vocab_size, is_broken)
        keys = tl.where(tokens < vocab_size, _key_of(values), _NOTHING)
        # Tokens are taken by (key, lower id first), so this is all that has not been taken.
        is_left = (keys < last_key) | ((keys == last_key) & (tokens > last_token))
        keys = tl.where(is_left, keys, _NOTHING)
        last_key = tl.max(keys, 0)
        last_token = block * BLOCK + tl.argmax(keys, 0)
        value = tl.max(tl.where(tokens == last_token, values, float("-inf")), 0)
        tl.store(out_ids_ptr + out + place, last_token.to(tl.int64))
        tl.store(logprobs_ptr + out + place, value - log_z)
        next_key = tl.max(tl.where(tokens == last_token, _NOTHING, keys), 0)
        left = tl.where(blocks == block, next_key, left)
        place += 1


def token_logprobs_triton(
    logits: Tensor, token_ids: Tensor, *, num_top: int
) -> TokenLogprobTensors:
    """Launch both passes; num_top is at most the vocabulary's size."""
    num_rows, vocab_size = logits.shape
    device = logits.device
    out = TokenLogprobTensors(
        token_ids=torch.empty(num_rows, 1 + num_top, dtype=torch.int64, device=device),
        logprobs=torch.empty(num_rows, 1 + num_top, device=device),
        ranks=torch.empty(num_rows, dtype=torch.int64, device=device),
        log_z=torch.empty(num_rows, device=device),
    )
    if num_rows == 0:
        return out
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    config = sample_config(vocab_size)
    maxima, sums = block_stats(logits, None, config)
    num_blocks = maxima.shape[1]
    block_ids = torch.empty(num_rows, num_blocks, dtype=torch.int32, device=device)
    _token_logprobs_kernel[(num_rows,)](
        logits,
        maxima,
        sums,
        token_ids.contiguous(),
        *out,
        block_ids,
        logits.stride(0),
        vocab_size,
        num_blocks,
        num_top,
        NUM_BLOCKS=config.num_blocks_padded,
        TURN=config.logprob_blocks_per_turn,
        BLOCK=BLOCK,
        num_warps=config.logprob_warps,
    )
    return out
