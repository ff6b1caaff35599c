"""Prompts of an exact number of tokens: random token ids, which every server here takes."""

from __future__ import annotations

import random

LOWEST_ID, HIGHEST_ID = 1_000, 40_000
"""Ordinary tokens of SmolLM2's 49,152: no special ones, few single bytes."""


def random_ids(rng: random.Random, num_tokens: int) -> list[int]:
    return [rng.randrange(LOWEST_ID, HIGHEST_ID) for _ in range(num_tokens)]
