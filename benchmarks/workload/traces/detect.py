"""The format of a trace: by name, or by the columns of its first row."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import ConfigError

from . import azure, burstgpt, mooncake, table
from .records import columns_of
from .row import TraceRows


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of trace file."""

    columns: tuple[tuple[str, ...], ...]
    """What a file of this kind has: one of each group of names."""
    read: Callable[[Path], TraceRows]

    def fits(self, columns: Collection[str]) -> bool:
        return all(any(name in columns for name in group) for group in self.columns)


def _each(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


# `auto` takes the first that fits: a Mooncake file is a table too.
FORMATS: dict[str, Format] = {
    "azure": Format(_each(azure.COLUMNS), azure.read_azure),
    "mooncake": Format(_each(mooncake.COLUMNS), mooncake.read_mooncake),
    "burstgpt": Format(_each(burstgpt.COLUMNS), burstgpt.read_burstgpt),
    "table": Format((table.START_S, table.INPUT, table.OUTPUT), table.read_table),
}


def read_trace(path: Path, name: str) -> TraceRows:
    """The requests in a file. Raises ConfigError for an unknown format, and for a bad file."""
    if name == "auto":
        name = detect(path)
    if name not in FORMATS:
        raise ConfigError(f"no trace format {name!r}; there are: auto, {', '.join(FORMATS)}")
    return FORMATS[name].read(path)


def detect(path: Path) -> str:
    """The name of the format. Raises ConfigError when the file's columns fit none."""
    columns = columns_of(path)
    for name, kind in FORMATS.items():
        if kind.fits(columns):
            return name
    known = "; ".join(
        f"{name} has {', '.join('/'.join(group) for group in kind.columns)}"
        for name, kind in FORMATS.items()
    )
    raise ConfigError(
        f"{path} is no known trace: its columns are {', '.join(columns)}."
        f" Rename them, or give one of: {known}"
    )
