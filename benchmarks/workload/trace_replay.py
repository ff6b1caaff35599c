"""Arrivals and lengths of a recorded trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from shoal.errors import ConfigError

from .lengths import parse_lengths
from .plan import Prompt, Session, Turn
from .tokens import PromptWriter
from .traces.detect import read_trace
from .traces.row import NUM_BLOCK_TOKENS, TraceRows

if TYPE_CHECKING:
    from .spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class TraceReplay:
    """One request a row, at its time. The words are random; where the trace knows which prompts
    began alike, they begin alike here, token for token."""

    rows: TraceRows
    seed: int
    time_scale: float
    writer: PromptWriter

    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> TraceReplay:
        """Reads the file. Raises ConfigError for what is wrong in it or in the spec."""
        if spec.path is None:
            raise ConfigError("the workload trace needs a file: --trace FILE")
        time_scale = 1.0 if spec.time_scale is None else spec.time_scale
        if not 0 < time_scale < math.inf:
            raise ConfigError(
                f"a time scale of {time_scale:g}: it must be above 0, and 2 replays twice as fast"
            )
        rows = read_trace(
            Path(spec.path),
            spec.format or "auto",
            fallback=(
                parse_lengths(spec.input_len) if spec.input_len else None,
                parse_lengths(spec.output_len) if spec.output_len else None,
            ),
            seed=spec.seed,
        )
        return cls(rows, spec.seed, time_scale, writer)

    @property
    def num_sessions(self) -> int | None:
        return self.rows.num_rows

    def session(self, index: int) -> Session:
        row = self.rows.row(index)
        num_tokens = self.writer.counted(row.num_input_tokens)
        if row.block_ids:
            prompt = self._of_blocks(row.block_ids, num_tokens)
        else:
            prompt = self.writer.prompt(Random(f"trace:{self.seed}:{index}"), num_tokens)
        turn = Turn(
            prompt=prompt,
            num_prompt_tokens=num_tokens,
            max_tokens=max(1, row.num_output_tokens),
        )
        return Session(turns=(turn,))

    def start_times(self) -> Iterator[float]:
        """From 0 at the first request on."""
        first_s: float | None = None
        for row in self.rows:
            if first_s is None:
                first_s = row.start_s
            yield (row.start_s - first_s) / self.time_scale

    def _of_blocks(self, block_ids: tuple[int, ...], num_tokens: int) -> Prompt:
        """A prompt whose blocks say the same in every prompt that has their ids.

        A block's words come from a generator of its own, so a shorter block is the beginning of
        the full one. What the server adds stands before the first block and is counted with it:
        the blocks that prompts share end where the trace says.
        """
        texts: list[str] = []
        token_ids: list[int] = []
        num_left = num_tokens - self.writer.overhead
        num_room = NUM_BLOCK_TOKENS - self.writer.overhead
        for block_id in block_ids:
            block = Random(f"trace-block:{self.seed}:{block_id}")
            part = self.writer.prefix(block, min(num_room, num_left))
            if isinstance(part, str):
                texts.append(part)
            else:
                token_ids += part
            num_left -= num_room
            num_room = NUM_BLOCK_TOKENS
        return token_ids or "".join(texts)
