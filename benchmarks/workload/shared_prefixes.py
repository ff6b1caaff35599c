"""Requests behind shared beginnings: system prompts of differing popularity, worked examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from .lengths import Lengths, parse_lengths
from .limits import at_least_one
from .plan import Session, Turn
from .tokens import PromptWriter

if TYPE_CHECKING:
    from .spec import WorkloadSpec


def zipf_choice(rng: Random, num_items: int) -> int:
    """Item k with a likelihood proportional to 1 / (k + 1): the law popularity tends to follow."""
    weights = list(accumulate(1 / (rank + 1) for rank in range(num_items)))
    return rng.choices(range(num_items), cum_weights=weights)[0]


@dataclass(frozen=True, slots=True)
class SystemPrompts:
    """Applications with a long system prompt each; users ask one question."""

    seed: int
    input_len: Lengths
    output_len: Lengths
    prefix_len: Lengths
    num_prefixes: int
    writer: PromptWriter

    num_sessions = None

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> SystemPrompts:
        return cls(
            spec.seed,
            parse_lengths(spec.input_len or ""),
            parse_lengths(spec.output_len or ""),
            parse_lengths(spec.prefix_len or ""),
            at_least_one(spec.num_prefixes, "num-prefixes"),
            writer,
        )

    def session(self, index: int) -> Session:
        rng = Random(f"system-prompts:{self.seed}:{index}")
        application = Random(f"system:{self.seed}:{zipf_choice(rng, self.num_prefixes)}")
        num_shared = self.prefix_len.sample(application)
        num_own = self.input_len.sample(rng)
        turn = Turn(
            prompt=self.writer.text(rng, num_own),
            num_prompt_tokens=num_own,
            max_tokens=self.output_len.sample(rng),
        )
        system = {"role": "system", "content": self.writer.text(application, num_shared)}
        return Session(turns=(turn,), opening=(system,), num_opening_tokens=num_shared)

    def start_times(self) -> Iterator[float] | None:
        return None


@dataclass(frozen=True, slots=True)
class FewShot:
    """Tasks whose prompts begin with the same examples, in the same order."""

    seed: int
    input_len: Lengths
    output_len: Lengths
    example_len: Lengths
    num_examples: int
    num_tasks: int
    writer: PromptWriter

    num_sessions = None

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> FewShot:
        return cls(
            spec.seed,
            parse_lengths(spec.input_len or ""),
            parse_lengths(spec.output_len or ""),
            parse_lengths(spec.prefix_len or ""),
            at_least_one(spec.num_examples, "num-examples"),
            at_least_one(spec.num_prefixes, "num-prefixes"),
            writer,
        )

    def session(self, index: int) -> Session:
        rng = Random(f"few-shot:{self.seed}:{index}")
        task = Random(f"examples:{self.seed}:{rng.randrange(self.num_tasks)}")
        num_shared = sum(self.example_len.sample(task) for _ in range(self.num_examples))
        num_own = self.input_len.sample(rng)
        turn = Turn(
            prompt=self.writer.prompt(rng, num_own, prefix=self.writer.prefix(task, num_shared)),
            num_prompt_tokens=num_shared + self.writer.counted(num_own),
            max_tokens=self.output_len.sample(rng),
        )
        return Session(turns=(turn,))

    def start_times(self) -> Iterator[float] | None:
        return None
