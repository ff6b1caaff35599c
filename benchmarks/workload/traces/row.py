"""One request of a trace, whatever the format it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from shoal.errors import ConfigError

NUM_BLOCK_TOKENS = 512
"""Tokens behind one entry of `block_ids`, as Mooncake publishes them."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """When a request came and how long it was; never what it said."""

    start_s: float
    """Seconds from the first request of the trace."""
    num_input_tokens: int
    num_output_tokens: int
    block_ids: tuple[int, ...] | None = None
    """One id for each 512 tokens of the prompt: two prompts whose first n ids are equal begin
    with the same n blocks. None: the trace says nothing of shared prefixes."""


class TraceRows(Protocol):
    """Rows in the order of their times, by index."""

    @property
    def num_rows(self) -> int | None:
        """None: there is no end, more are generated as they are asked for."""

    def row(self, index: int) -> TraceRow: ...

    def __iter__(self) -> Iterator[TraceRow]: ...


@dataclass(frozen=True, slots=True)
class RecordedRows:
    """A finite trace."""

    rows: tuple[TraceRow, ...]
    num_failed: int = 0
    """Requests of the file that had failed and are left out."""

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> TraceRow:
        return self.rows[index]

    def __iter__(self) -> Iterator[TraceRow]:
        return iter(self.rows)


def recorded(numbered: Iterable[tuple[int, TraceRow | None]], *, source: str) -> RecordedRows:
    """Rows of a file, with times made to count from the first.

    `numbered` are (line of the file, row); None for a request that had failed. Raises
    ConfigError when there are none, or when a time lies before the one above it: a replay in
    another order than the file's would be a surprise.
    """
    rows: list[TraceRow] = []
    num_failed = 0
    for line, row in numbered:
        if row is None:
            num_failed += 1
            continue
        if rows and row.start_s < rows[-1].start_s:
            raise ConfigError(
                f"{source}, line {line}: this request starts {rows[-1].start_s - row.start_s:g} s"
                " before the one above it; sort the file by time"
            )
        rows.append(row)
    if not rows:
        but = f" but {num_failed} that failed" if num_failed else ""
        raise ConfigError(f"{source} has no requests{but}")
    first_s = rows[0].start_s
    shifted = tuple(replace(row, start_s=row.start_s - first_s) for row in rows)
    return RecordedRows(shifted, num_failed)
