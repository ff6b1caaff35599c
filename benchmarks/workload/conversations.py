"""Conversations of several turns: people who chat, agents that call tools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from .lengths import Lengths, Pauses, parse_lengths, parse_pauses
from .plan import Session, Turn
from .tokens import PromptWriter

if TYPE_CHECKING:
    from .spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Chat:
    """A user and an assistant in turns; the next turn follows a pause after the answer's end.

    All sessions share one system prompt. The length of a prompt grows with the history, real
    answers included, so a server finds all of it but the newest turn in its prefix cache.
    """

    seed: int
    input_len: Lengths
    output_len: Lengths
    system_len: Lengths
    num_turns: Lengths
    pauses: Pauses
    writer: PromptWriter

    num_sessions = None

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> Chat:
        return cls(
            spec.seed,
            parse_lengths(spec.input_len or ""),
            parse_lengths(spec.output_len or ""),
            parse_lengths(spec.prefix_len or ""),
            parse_lengths(spec.num_turns or ""),
            parse_pauses(spec.pause_s or ""),
            writer,
        )

    def session(self, index: int) -> Session:
        rng = Random(f"chat:{self.seed}:{index}")
        shared = Random(f"chat-system:{self.seed}")
        num_shared = self.system_len.sample(shared)
        system = {"role": "system", "content": self.writer.text(shared, num_shared)}
        turns = tuple(
            self._turn(rng, is_first=number == 0) for number in range(self.num_turns.sample(rng))
        )
        return Session(turns=turns, opening=(system,), num_opening_tokens=num_shared)

    def _turn(self, rng: Random, *, is_first: bool) -> Turn:
        num_tokens = self.input_len.sample(rng)
        return Turn(
            prompt=self.writer.text(rng, num_tokens),
            num_prompt_tokens=num_tokens,
            max_tokens=self.output_len.sample(rng),
            pause_s=0.0 if is_first else self.pauses.draw(rng),
        )

    def start_times(self) -> Iterator[float] | None:
        return None


class Agent(Chat):
    """The same shape with other numbers: long shared instructions, and what looks like a user's
    turn is a tool's result, sent when the tool has run.

    Results go out under the role `user`: the role `tool` needs tool calls that a model which
    answers random words does not make, and a chat template may refuse it.
    """
