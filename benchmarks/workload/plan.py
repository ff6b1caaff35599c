"""What is sent: the types every workload is made of. Pure values, no I/O, no clock.

A workload is a numbered sequence of *sessions*; a session is one conversation of one or more
*turns*, sent one after the other. A plain request is a session of one turn. `session(index)`
depends on the spec, the seed and the index alone: processes that share a run need not talk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Prompt = str | list[int]
"""Text, or token ids (which only the completions endpoint takes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a session: what is new in it."""

    prompt: Prompt
    num_prompt_tokens: int | None
    """Tokens of `prompt` by the server's tokenizer; None where the workload cannot know."""
    max_tokens: int | None
    """Length of the answer; None leaves it to the server."""
    pause_s: float = 0.0
    """Seconds from the end of the previous answer to this turn: a person thinks, a tool runs."""
    role: str = "user"
    """Chat role of `prompt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation. Each turn is sent with everything before it, answers included."""

    turns: tuple[Turn, ...]
    opening: tuple[Mapping[str, Any], ...] = ()
    """Chat messages (`role`, `content`) before the first turn, e.g. a system prompt. On the
    completions endpoint their contents are put before the prompt."""
    num_opening_tokens: int | None = 0


class Workload(Protocol):
    """An endless or finite sequence of sessions, some with arrival times of their own."""

    @property
    def num_sessions(self) -> int | None:
        """None: as many as are asked for."""

    def session(self, index: int) -> Session:
        """Session `index` (from 0; below `num_sessions`)."""

    def start_times(self) -> Iterator[float] | None:
        """Seconds from the start of the run at which each session starts, in order; None when the
        arrivals are the load's business and not the workload's."""
