"""The traces of Microsoft Azure's language model services.

CSV with `TIMESTAMP` (date and time, to 100 ns), `ContextTokens` and `GeneratedTokens`. Published in
github.com/Azure/AzurePublicDataset (2023 and 2024) with Patel et al., "Splitwise", ISCA 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .records import Record, read_records
from .row import RecordedRows, TraceRow, recorded

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(path: Path) -> RecordedRows:
    """Raises ConfigError naming line and column for whatever does not fit."""
    return recorded(_rows(path), source=str(path))


def _rows(path: Path) -> Iterator[tuple[int, TraceRow]]:
    for record in read_records(path):
        yield (
            record.line,
            TraceRow(
                start_s=_moment_s(record),
                num_input_tokens=record.count("ContextTokens"),
                num_output_tokens=record.count("GeneratedTokens"),
            ),
        )


def _moment_s(record: Record) -> float:
    """Seconds since 1970, to the microsecond; UTC where the file names no zone, as in 2023."""
    text = record.text("TIMESTAMP")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = "is not a date and time such as 2023-11-16 18:15:46.6805900"
        raise record.wrong("TIMESTAMP", problem) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
