"""A tokenizer small enough to count by hand: a word behind a blank is a token, a prompt gets extra
ones in front."""

from __future__ import annotations

from shoal.benchmarks.workload.plan import Prompt
from shoal.benchmarks.workload.tokens import TokenPool

WORDS = [f"w{number}" for number in range(400)]
IDS = [10_000 + number for number in range(400)]


def make_pool(*, overhead: int = 0, with_ids: bool = True) -> TokenPool:
    return TokenPool(words=WORDS, token_ids=IDS if with_ids else [], overhead=overhead)


def tokens_of(prompt: Prompt, *, overhead: int = 0) -> list[int]:
    """What the toy server makes of a prompt; token ids are taken as they are."""
    if isinstance(prompt, list):
        return prompt
    blank, *words = prompt.split(" ")
    assert blank == "", "every word stands behind a blank"
    return [1] * overhead + [IDS[WORDS.index(word)] for word in words]


def num_shared(one: list[int], other: list[int]) -> int:
    """How many tokens two prompts have in common from their beginning."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))
