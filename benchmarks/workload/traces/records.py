"""Rows of CSV and JSONL files, with errors that say the line and the column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import msgspec

from shoal.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file. CSV gives text for every value, JSONL gives numbers for numbers."""

    source: str
    line: int
    """Of the file, from 1; a CSV header counts."""
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Raises ConfigError when the column is missing or empty."""
        value = self._value(column)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(column, "is not text")
        return value.strip()

    def number(self, column: str) -> float:
        """A finite number of at least 0. Raises ConfigError for anything else."""
        value = self._value(column)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise self.wrong(column, "is not a number of at least 0")
        return number

    def count(self, column: str) -> int:
        """A whole number of at least 0. Raises ConfigError for anything else."""
        number = self.number(column)
        if number != int(number):
            raise self.wrong(column, "is not a whole number")
        return int(number)

    def wrong(self, column: str, problem: str) -> ConfigError:
        """The error for a value that does not fit."""
        return ConfigError(
            f"{self.source}, line {self.line}, column {column}:"
            f" {self.values.get(column)!r:.80} {problem}"
        )

    def _value(self, column: str) -> Any:
        value = self.values.get(column)
        if value is None:
            if column not in self.values:
                has = ", ".join(map(str, self.values)) or "none"
                raise ConfigError(
                    f"{self.source}, line {self.line}: there is no column {column}; it has: {has}"
                )
            raise self.wrong(column, "stands where a value should be")
        return value


def read_records(path: Path) -> Iterator[Record]:
    """Rows of a file, in its order: JSONL when it begins with `{`, else CSV with a header.

    Raises ConfigError for a file that cannot be read or is neither.
    """
    source = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            begin = lines.read(4096).lstrip()[:1]
            lines.seek(0)
            if begin == "[":
                raise ConfigError(f"{source} is one JSON array; put one object on each line")
            yield from _jsonl(lines, source) if begin == "{" else _csv(lines, source)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {source}: {error}") from None


def columns_of(path: Path) -> tuple[str, ...]:
    """The columns of a file's first row. Raises ConfigError when it has no rows."""
    for record in read_records(path):
        return tuple(map(str, record.values))
    raise ConfigError(f"{path} has no rows")


def _jsonl(lines: TextIO, source: str) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Record(source, number, decoder.decode(line))
        except msgspec.DecodeError as error:
            raise ConfigError(f"{source}, line {number} is not a JSON object: {error}") from None


def _csv(lines: TextIO, source: str) -> Iterator[Record]:
    reader = csv.DictReader(lines, skipinitialspace=True)
    try:
        for row in reader:
            # The key None holds what stands beyond the header's last column.
            if None in row:
                raise ConfigError(
                    f"{source}, line {reader.line_num} has more values than the header has columns"
                )
            yield Record(source, reader.line_num, row)
    except csv.Error as error:
        # The reader inside has seen the line that broke; DictReader counts those it gave out.
        raise ConfigError(f"{source}, line {reader.reader.line_num}: {error}") from None
