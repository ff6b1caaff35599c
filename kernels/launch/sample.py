"""How the sampling kernels are launched."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .powers import next_power_of_two

BLOCK = 256
"""Tokens of a block: those of `kernels/random_choice.py`, whose draw goes over blocks first."""

_PROGRAMS_PER_SM = 8
"""Programs that should share the reading of the logits on each multiprocessor: fewer leave memory
idle, and more only make each one shorter."""

_SAMPLES = 8192
"""Tokens of a row that tell where its cutoff is, to some 0.5 % of its mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """One pass over all logits, then one program a row over what the pass left to look at."""

    blocks_per_program: int
    """Blocks of BLOCK tokens that a program of the first pass reads."""
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


def sample_config(num_rows: int, vocab_size: int, gpu: Gpu) -> SampleConfig:
    """The launch for [num_rows, vocab_size] logits."""
    num_blocks = -(-vocab_size // BLOCK)
    num_blocks_padded = next_power_of_two(num_blocks)
    wanted_programs = gpu.num_sms * _PROGRAMS_PER_SM
    blocks = num_rows * num_blocks // wanted_programs
    blocks_per_program = min(max(_power_of_two_up_to(blocks), 2), 16)
    return SampleConfig(
        blocks_per_program=blocks_per_program,
        stats_warps=4 if blocks_per_program >= 8 else blocks_per_program // 2,
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


def _power_of_two_up_to(number: int) -> int:
    return 1 << max(number.bit_length() - 1, 0)
