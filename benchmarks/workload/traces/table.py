"""Traces of no particular origin: a CSV or JSONL file with a time and two lengths a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from shoal.errors import ConfigError

from .records import columns_of, read_records
from .row import RecordedRows, TraceRow, recorded

START_S = (
    "start_s", "arrival_s", "arrival_time", "arrived_at", "start_time", "timestamp_s",
    "timestamp", "time_s", "time",
)  # fmt: skip
"""Seconds, whatever the name."""
INPUT = (
    "num_input_tokens", "input_tokens", "input_length", "input_len", "prompt_tokens",
    "prompt_length", "prompt_len", "num_prefill_tokens",
)  # fmt: skip
OUTPUT = (
    "num_output_tokens", "output_tokens", "output_length", "output_len", "completion_tokens",
    "response_length", "num_decode_tokens",
)  # fmt: skip


def read_table(path: Path) -> RecordedRows:
    """Raises ConfigError naming line and column for whatever does not fit."""
    return recorded(_rows(path), source=str(path))


def _rows(path: Path) -> Iterator[tuple[int, TraceRow]]:
    columns = columns_of(path)
    start, num_input, num_output = (
        _pick(columns, names, what, path)
        for names, what in (
            (START_S, "the start in seconds"),
            (INPUT, "the prompt's tokens"),
            (OUTPUT, "the answer's tokens"),
        )
    )
    for record in read_records(path):
        yield (
            record.line,
            TraceRow(
                start_s=record.number(start),
                num_input_tokens=record.count(num_input),
                num_output_tokens=record.count(num_output),
            ),
        )


def _pick(columns: Collection[str], names: tuple[str, ...], what: str, path: Path) -> str:
    for name in names:
        if name in columns:
            return name
    raise ConfigError(
        f"{path} has no column for {what}; it may be called {', '.join(names)};"
        f" the file has: {', '.join(columns)}"
    )
