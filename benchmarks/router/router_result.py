"""`results/router.json`: every line that was measured, and what follows from the lines.

Names of figures carry their units. A change that breaks readers raises the number in the schema's
name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.benchmarks.peers.peers_result import Contestant, Line
from shoal.errors import ConfigError

SCHEMA = "shoal.bench.router/1"


class RouterResult(msgspec.Struct, kw_only=True):
    schema: str = SCHEMA
    created: str
    """ISO 8601, UTC: when the first router was started."""
    environment: dict[str, Any]
    """Machine, versions of Shoal's side, commit and command."""
    repeats: int
    """As asked for."""
    quick: bool
    """Smaller and shorter than the standard set: for trying out, not for quoting."""
    soak_minutes: float
    interrupted: bool = False
    contestants: dict[str, Contestant]
    left_out: dict[str, str] = {}
    """Routers that could not take part, and why."""
    cases: dict[str, str]
    """Title by case name, in the order they were run."""
    lines: list[Line] = []
    """In the order they were measured."""
    medians: dict[str, dict[str, dict[str, float]]] = {}
    """Over repeats: router, case, figure."""
    verdict: dict[str, float | None] = {}
    """Shoal beside the others; None: not measured."""


def encode(result: RouterResult) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def decode(content: bytes, *, source: str) -> RouterResult:
    """Raises ConfigError naming `source` for anything else."""
    try:
        result = msgspec.json.decode(content, type=RouterResult)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{source} is not a result of the router benchmark: {error}") from None
    if result.schema != SCHEMA:
        raise ConfigError(f"{source}: schema {result.schema!r} is not {SCHEMA}")
    return result
