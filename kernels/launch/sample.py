"""How the sampling kernels are launched."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two

BLOCK = 256
"""Tokens of a block: those of `kernels/random_choice.py`, whose draw goes over blocks first."""

_SAMPLES = 8192
"""Tokens of a row that tell where its cutoff is, to some 0.5 % of its mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """One pass over all logits, then one program a row over what the pass left to look at."""

    blocks_per_program: int
    """Blocks of BLOCK tokens that a program of the first pass reads: 63 programs for a row of
    128,256."""
    stats_warps: int
    num_blocks_padded: int
    """Blocks of a row, up to a power of two."""
    row_warps: int
    blocks_per_turn: int
    """Blocks that a row's program reads at once, of those that may hold a kept token."""
    max_candidates: int
    """Weights that a row's program holds at once to find a cutoff among them; rows where more
    could be kept are wide, and left to a program of their own."""
    wide_warps: int
    wide_blocks_per_turn: int
    samples_per_block: int
    """Tokens of each block that make the sample, at least 2."""
    logprob_warps: int
    logprob_blocks_per_turn: int

    @property
    def max_wide_candidates(self) -> int:
        """Weights that a wide row's program holds: those of the sample first, then as many of those
        inside the bracket that it guessed, in their place."""
        return self.num_blocks_padded * self.samples_per_block


def sample_config(vocab_size: int) -> SampleConfig:
    """The launch for logits of this vocabulary, however many rows there are.

    So the programs of a row are the same whatever is beside it, and its sums, which follow from the
    layout of a program, are added up in the same order: its token depends on nothing but itself.
    """
    num_blocks = -(-vocab_size // BLOCK)
    num_blocks_padded = next_power_of_two(num_blocks)
    return SampleConfig(
        blocks_per_program=8,
        stats_warps=2,
        num_blocks_padded=num_blocks_padded,
        row_warps=8,
        blocks_per_turn=8,
        max_candidates=2048,
        wide_warps=16,
        wide_blocks_per_turn=16,
        samples_per_block=max(min(_SAMPLES // num_blocks_padded, BLOCK), 2),
        logprob_warps=8,
        logprob_blocks_per_turn=16,
    )
