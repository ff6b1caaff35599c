"""What every server is measured on: few loads, small enough for a two-core machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shoal.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCase:
    """`num_requests` requests, `concurrency` of them in flight; greedy, streamed, no early end."""

    name: str
    title: str
    concurrency: int
    num_requests: int
    input_tokens: int = 128
    """Tokens of a prompt that no other prompt has."""
    output_tokens: int = 128
    prefix_tokens: int = 0
    """Tokens before them that all prompts share; nothing of them is cached at the start."""

    def quick(self) -> LoadCase:
        """As few requests as keep the concurrency, and a quarter of the output."""
        return replace(
            self,
            num_requests=max(self.concurrency, 2),
            output_tokens=max(1, self.output_tokens // 4),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPromptCase:
    """One long prompt arrives while `num_decodes` answers are being written."""

    name: str
    title: str
    num_decodes: int = 8
    input_tokens: int = 128
    output_tokens: int = 384
    long_input_tokens: int = 4000
    long_output_tokens: int = 16
    chunks_before: int = 8
    """What each decode has written before the long prompt is sent."""

    def quick(self) -> LongPromptCase:
        return replace(self, output_tokens=self.output_tokens // 4)


Case = LoadCase | LongPromptCase


def _chat(concurrency: int) -> LoadCase:
    return LoadCase(
        name=f"c{concurrency}",
        title=f"chat, {concurrency} at a time",
        concurrency=concurrency,
        num_requests=max(8, 2 * concurrency),
    )


STANDARD_SET: tuple[Case, ...] = (
    _chat(1),
    _chat(8),
    _chat(32),
    LoadCase(name="offline", title="64 requests at once", concurrency=64, num_requests=64),
    LoadCase(
        name="prefix",
        title="shared prefix of 1,024 tokens, cold, 16 at a time",
        concurrency=16,
        num_requests=64,
        input_tokens=64,
        output_tokens=32,
        prefix_tokens=1024,
    ),
    LongPromptCase(name="longprompt", title="a prompt of 4,000 tokens meets 8 decodes"),
)

OFFLINE = "offline"
"""The one case for contestants without a server."""

THROUGHPUT_CASES = ("c1", "c8", "c32", OFFLINE)
"""Cases whose output tokens per second are compared with the best peer's."""


def choose_cases(names: Sequence[str] | None, *, quick: bool) -> list[Case]:
    """The named cases, or all, in the order of the set. Raises ConfigError for an unknown name."""
    known = [case.name for case in STANDARD_SET]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no case {name!r}; there are {', '.join(known)}")
    chosen = [case for case in STANDARD_SET if names is None or case.name in names]
    return [case.quick() for case in chosen] if quick else chosen
