"""Draws token ids from weights, with randomness that is a pure function of (seed, position).

Same seed, same tokens: whatever else is in the batch, in whatever row, before and after a
preemption. Two choices make that hold:

- The generator is counter-based (splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom
  number generators", 2014), so there is no state to carry, save or advance.
- The draw is a Gumbel argmax, not an inverse CDF. Logits differ in the last bits between batch
  shapes; a CDF moves at *every* token then, and in a long tail of tokens with p ~ 1e-6 a draw
  easily lands next door. An argmax changes only when the two best are that close.

Noise for every token of the vocabulary would cost more than all the rest of sampling, so the
argmax runs in two levels: first over blocks of `BLOCK` tokens with the blocks' total weights,
then inside the winning block. The distribution stays exact: P(block) * P(token | block).
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Tokens per block: about the square root of a vocabulary, so that both levels are small."""

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # torch has no uint64 arithmetic: the same 64 bits, signed
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def choose_tokens(weights: Tensor, seeds: Tensor, positions: Tensor) -> Tensor:
    """Draw one token per row with probability proportional to its weight.

    weights: [num_rows, num_blocks * BLOCK] float32, not negative, at least one above 0 in each
    row, padded at the end with zeros; seeds, positions: [num_rows] int64. Returns [num_rows] int64.
    """
    blocks = weights.view(weights.shape[0], -1, BLOCK)
    keys = mix64(mix64(seeds) + (positions + 1) * _GAMMA).unsqueeze(1)
    block_ids = torch.arange(blocks.shape[1], device=weights.device)
    block = _gumbel_argmax(blocks.sum(dim=-1), keys, block_ids)
    first_token = block * BLOCK
    token_ids = first_token.unsqueeze(1) + torch.arange(BLOCK, device=weights.device)
    inside = blocks.gather(1, block.view(-1, 1, 1).expand(-1, 1, BLOCK)).squeeze(1)
    return first_token + _gumbel_argmax(inside, mix64(keys), token_ids)


def padded_size(vocab_size: int) -> int:
    """The width `choose_tokens` wants for a vocabulary."""
    return -(-vocab_size // BLOCK) * BLOCK


def mix64(x: Tensor) -> Tensor:
    """The finaliser of splitmix64: a bijection of 64-bit integers that scatters nearby inputs."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _gumbel_argmax(weights: Tensor, keys: Tensor, counters: Tensor) -> Tensor:
    """argmax of log(weight) + Gumbel noise hashed from (key, counter); weight 0 never wins."""
    bits = _shift_right(mix64(keys + (counters + 1) * _GAMMA), 11)  # 53 bits fill a float64
    uniform = (bits.double() + 0.5) * 2.0**-53
    return (weights.double().log() - (-uniform.log()).log()).argmax(dim=-1)


def _shift_right(x: Tensor, num_bits: int) -> Tensor:
    """Logical shift: torch's `>>` copies the sign bit in."""
    return (x >> num_bits) & ((1 << (64 - num_bits)) - 1)
