"""The format of a trace: by name, or by the columns of its first row."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import ConfigError

from ..lengths import Lengths
from . import azure, burstgpt, mooncake, servegen, table
from .records import columns_of
from .row import RecordedRows, TraceRows


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of trace file."""

    columns: tuple[tuple[str, ...], ...]
    """What a file of this kind has: one of each group of names."""
    read: Callable[[Path], RecordedRows] | None
    """None: the requests are generated from what the file says, and `read_trace` sees to it."""

    def fits(self, columns: Collection[str]) -> bool:
        return all(any(name in columns for name in group) for group in self.columns)


def _each(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


# `auto` takes the first that fits: a Mooncake file is a table too.
FORMATS: dict[str, Format] = {
    "azure": Format(_each(azure.COLUMNS), azure.read_azure),
    "mooncake": Format(_each(mooncake.COLUMNS), mooncake.read_mooncake),
    "servegen": Format(_each(servegen.COLUMNS), None),
    "burstgpt": Format(_each(burstgpt.COLUMNS), burstgpt.read_burstgpt),
    "table": Format((table.START_S, table.INPUT, table.OUTPUT), table.read_table),
}


def read_trace(
    path: Path, name: str, *, fallback: tuple[Lengths | None, Lengths | None], seed: int
) -> TraceRows:
    """The requests in a file, or those it is a model of.

    `name` is one of FORMATS, `auto`, or `servegen:SERVICE`. `fallback` are lengths of prompts and
    answers for clients of ServeGen that the source has none for, and belong to nothing else.
    Raises ConfigError for an unknown format, and for a bad file.
    """
    kind, colon, service = name.partition(":")
    if name == "auto":
        kind = detect(path)
    if kind not in FORMATS or (colon and (kind != "servegen" or not service)):
        known = ", ".join(FORMATS)
        raise ConfigError(
            f"no trace format {name!r}; there are: auto, {known}; and servegen:SERVICE chooses"
            " one service of several"
        )
    read = FORMATS[kind].read
    if read is None:
        return servegen.read_servegen(path, service=service or None, fallback=fallback, seed=seed)
    if fallback != (None, None):
        raise ConfigError(
            f"{path} gives the length of every request: input-len and output-len have no use"
        )
    return read(path)


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
