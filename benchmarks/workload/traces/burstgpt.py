"""BurstGPT traces: ChatGPT and GPT-4 requests of a campus.

CSV with `Timestamp` (seconds), `Model`, `Request tokens`, `Response tokens`, `Total tokens` and
`Log Type`; later versions add columns that are not needed here. Requests that failed have no
response tokens; they are counted and left out, as a replay cannot make a server fail the same way.
Published with Wang et al., "BurstGPT", KDD 2025 (github.com/HPMLL/BurstGPT).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .records import read_records
from .row import RecordedRows, TraceRow, recorded

COLUMNS = ("Timestamp", "Request tokens", "Response tokens")


def read_burstgpt(path: Path) -> RecordedRows:
    """Raises ConfigError naming line and column for whatever does not fit."""
    return recorded(_rows(path), source=str(path))


def _rows(path: Path) -> Iterator[tuple[int, TraceRow | None]]:
    for record in read_records(path):
        row = TraceRow(
            start_s=record.number("Timestamp"),
            num_input_tokens=record.count("Request tokens"),
            num_output_tokens=record.count("Response tokens"),
        )
        yield record.line, row if row.num_output_tokens > 0 else None
