"""`results/peers.json`: every line that was measured, and what follows from the lines.

Names of figures carry their units. A change that breaks readers raises the number in the schema's
name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import ConfigError

SCHEMA = "shoal.bench.peers/1"

START = "start"
"""Case name of the line with `start_s`."""
MEMORY = "memory"
"""Case name of the line with `after_load_bytes` and `peak_bytes`."""


class Line(msgspec.Struct, kw_only=True):
    """One measurement of one server in one repeat, or why there is none."""

    server: str
    repeat: int
    case: str
    figures: dict[str, float] = {}
    foreign_cpu: float | None = None
    """Share of the machine that other processes used meanwhile, in [0, 1]."""
    error: str | None = None


class Contestant(msgspec.Struct, kw_only=True):
    """What took part, and how."""

    version: str
    settings: str


class PeersResult(msgspec.Struct, kw_only=True):
    schema: str = SCHEMA
    created: str
    """ISO 8601, UTC: when the first server was started."""
    environment: dict[str, Any]
    """Machine, versions of Shoal's side, commit and command."""
    model: str
    repeats: int
    """As asked for."""
    quick: bool
    """Smaller loads than the standard set's: for trying out, not for quoting."""
    interrupted: bool = False
    contestants: dict[str, Contestant]
    cases: dict[str, str]
    """Title by case name, in the order they were run."""
    lines: list[Line] = []
    """In the order they were measured."""
    medians: dict[str, dict[str, dict[str, float]]] = {}
    """Over repeats: server, case, figure."""
    best_peer: dict[str, str] = {}
    """By case: the peer with the highest median of output tokens per second."""
    ratio_to_best_peer: dict[str, float] = {}
    """By case: Shoal's output tokens per second divided by the best peer's of the same repeat,
    median over repeats."""
    ratio_to_best_peer_bf16: dict[str, float] = {}
    """The same for Shoal with bf16 weights."""


def encode(result: PeersResult) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def decode(content: bytes, *, source: str) -> PeersResult:
    """Raises ConfigError naming `source` for anything else."""
    try:
        result = msgspec.json.decode(content, type=PeersResult)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{source} is not a result of the peers benchmark: {error}") from None
    if result.schema != SCHEMA:
        raise ConfigError(f"{source}: schema {result.schema!r} is not {SCHEMA}")
    return result


def write_whole(content: bytes, path: Path) -> None:
    """Write beside the target first, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
