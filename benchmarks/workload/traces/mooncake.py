"""Mooncake traces: times, lengths, and which prompts begin alike.

JSONL with `timestamp` (milliseconds), `input_length`, `output_length` and `hash_ids`, one id for
each 512-token block of the prompt; the last block may be partial. Published with Qin et al.,
"Mooncake", FAST 2025 (github.com/kvcache-ai/Mooncake).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .records import Record, read_records
from .row import NUM_BLOCK_TOKENS, RecordedRows, TraceRow, recorded

COLUMNS = ("timestamp", "input_length", "output_length", "hash_ids")


def read_mooncake(path: Path) -> RecordedRows:
    """Raises ConfigError naming line and column for whatever does not fit."""
    return recorded(_rows(path), source=str(path))


def _rows(path: Path) -> Iterator[tuple[int, TraceRow]]:
    for record in read_records(path):
        num_input_tokens = record.count("input_length")
        yield (
            record.line,
            TraceRow(
                start_s=record.number("timestamp") / 1000,
                num_input_tokens=num_input_tokens,
                num_output_tokens=record.count("output_length"),
                block_ids=_block_ids(record, num_input_tokens),
            ),
        )


def _block_ids(record: Record, num_input_tokens: int) -> tuple[int, ...]:
    ids = record.values.get("hash_ids")
    if not isinstance(ids, list) or not all(type(block) is int for block in ids):
        raise record.wrong("hash_ids", "is not a list of whole numbers")
    num_blocks = -(-num_input_tokens // NUM_BLOCK_TOKENS)
    if len(ids) != num_blocks:
        raise record.wrong(
            "hash_ids",
            f"has {len(ids)} entries; {num_input_tokens} tokens are {num_blocks} blocks of"
            f" {NUM_BLOCK_TOKENS}",
        )
    return tuple(ids)
