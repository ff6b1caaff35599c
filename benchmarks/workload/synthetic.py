"""Random prompts that share nothing, or exactly their prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from .lengths import Lengths, parse_lengths
from .limits import at_least_one
from .plan import Session, Turn
from .tokens import PromptWriter

if TYPE_CHECKING:
    from .spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Synthetic:
    """One request a session. With a prefix, session i belongs to group i mod `num_prefixes`."""

    seed: int
    input_len: Lengths
    output_len: Lengths
    prefix_len: Lengths | None
    num_prefixes: int
    writer: PromptWriter

    num_sessions = None

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> Synthetic:
        return cls(
            spec.seed,
            parse_lengths(spec.input_len or ""),
            parse_lengths(spec.output_len or ""),
            parse_lengths(spec.prefix_len) if spec.prefix_len else None,
            at_least_one(spec.num_prefixes, "num-prefixes"),
            writer,
        )

    def session(self, index: int) -> Session:
        rng = Random(f"synthetic:{self.seed}:{index}")
        num_own = self.input_len.sample(rng)
        prefix, num_shared = None, 0
        if self.prefix_len is not None:
            group = Random(f"prefix:{self.seed}:{index % self.num_prefixes}")
            num_shared = self.prefix_len.sample(group)
            prefix = self.writer.prefix(group, num_shared)
        turn = Turn(
            prompt=self.writer.prompt(rng, num_own, prefix=prefix),
            num_prompt_tokens=num_shared + self.writer.counted(num_own),
            max_tokens=self.output_len.sample(rng),
        )
        return Session(turns=(turn,))

    def start_times(self) -> Iterator[float] | None:
        return None
