"""Prompts from a JSONL file, sent as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from shoal.errors import ConfigError

from .lengths import Lengths, parse_lengths
from .plan import Session, Turn
from .tokens import PromptWriter

if TYPE_CHECKING:
    from .spec import WorkloadSpec

FORM = (
    'an object a line: "prompt" (text or token ids) or "messages" (the last one a user\'s),'
    ' and optionally "max_tokens"'
)


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A session a line, each once, in the order of the file."""

    rows: tuple[Session, ...]

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> PromptFile:
        if spec.path is None:
            raise ConfigError("the workload jsonl needs a file: --prompts FILE")
        default = parse_lengths(spec.output_len or "")
        rows = tuple(read_prompts(Path(spec.path), default, seed=spec.seed))
        if not rows:
            raise ConfigError(f"{spec.path} holds no prompts; it needs {FORM}")
        return cls(rows)

    @property
    def num_sessions(self) -> int:
        return len(self.rows)

    def session(self, index: int) -> Session:
        return self.rows[index]

    def start_times(self) -> Iterator[float] | None:
        return None


def holds_messages(path: Path) -> bool:
    """Whether the first prompt of the file is a chat. False for a file that cannot be read, which
    is told when the prompts are."""
    try:
        with path.open(encoding="utf-8") as lines:
            first: Any = json.loads(next(line for line in lines if line.strip()))
    except (OSError, ValueError, StopIteration):
        return False
    return isinstance(first, dict) and "messages" in first


def read_prompts(path: Path, default: Lengths, *, seed: int = 0) -> Iterator[Session]:
    """Sessions of the file. Raises ConfigError naming the line that does not fit."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rng = Random(f"jsonl:{seed}:{number}")
                    yield _session(line, f"{path}, line {number}", default.sample(rng))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None


def _session(line: str, where: str, default_max_tokens: int) -> Session:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is not JSON ({error}); the file needs {FORM}") from None
    if not isinstance(row, dict) or ("prompt" in row) == ("messages" in row):
        raise ConfigError(f"{where}: the file needs {FORM}")
    max_tokens = row.get("max_tokens", default_max_tokens)
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise ConfigError(f"{where}: max_tokens is {max_tokens!r}, not a whole number above 0")
    opening: tuple[Any, ...] = ()
    if "prompt" in row:
        prompt = row["prompt"]
        is_ids = isinstance(prompt, list) and all(
            type(token) is int and token >= 0 for token in prompt
        )
        if not prompt or not (isinstance(prompt, str) or is_ids):
            raise ConfigError(f"{where}: the prompt is neither text nor a list of token ids")
    else:
        messages = row["messages"]
        if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
            raise ConfigError(f"{where}: messages must be objects with a role and a text content")
        *before, last = messages
        if last["role"] != "user":
            raise ConfigError(f"{where}: the last message is of {last['role']!r}, not of a user")
        opening, prompt = tuple(before), last["content"]
    turn = Turn(
        prompt=prompt,
        num_prompt_tokens=len(prompt) if isinstance(prompt, list) else None,
        max_tokens=max_tokens,
    )
    return Session(turns=(turn,), opening=opening, num_opening_tokens=None)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )
