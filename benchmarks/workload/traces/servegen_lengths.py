"""How long the prompts and answers of ServeGen's clients are: quantiles by windows of six hours.

CSV with `workload, client_id, window_start_s`, then for `input` and `output` each `mean, p5, p25,
p50, p75, p95, p99` in tokens. Between two quantiles lengths are spread evenly; what lies beyond
the outer ones is taken to be as long as they are.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ..lengths import Lengths, Quantiles
from .records import Record, read_records

PERCENTS = (5, 25, 50, 75, 95, 99)


@dataclass(slots=True)
class ClientLengths:
    """Lengths of one client over the trace."""

    starts_s: list[float] = field(default_factory=list)
    """When each window begins, rising."""
    pairs: list[tuple[Lengths, Lengths]] = field(default_factory=list)
    """Prompts and answers of each window."""

    @classmethod
    def always(cls, num_input: Lengths, num_output: Lengths) -> ClientLengths:
        """The same at all times."""
        return cls([0.0], [(num_input, num_output)])

    def at(self, trace_s: float) -> tuple[Lengths, Lengths]:
        """The window that began last; the first one for times before it."""
        return self.pairs[max(0, bisect_right(self.starts_s, trace_s) - 1)]


def read_lengths(path: Path, *, beside: Path) -> dict[tuple[str, str], ClientLengths]:
    """By service and client; nothing when there is no such file beside the rates.

    Raises ConfigError naming line and column for whatever does not fit.
    """
    clients: dict[tuple[str, str], ClientLengths] = {}
    if path == beside or not path.exists():
        return clients
    for record in read_records(path):
        key = record.text("workload"), record.text("client_id")
        client = clients.setdefault(key, ClientLengths())
        start_s = record.number("window_start_s")
        if client.starts_s and start_s <= client.starts_s[-1]:
            raise record.wrong("window_start_s", "is not after the client's window before it")
        client.starts_s.append(start_s)
        client.pairs.append((_quantiles(record, "input"), _quantiles(record, "output")))
    return clients


def _quantiles(record: Record, what: str) -> Quantiles:
    points = [(percent / 100, record.number(f"{what}_p{percent}")) for percent in PERCENTS]
    for (_, below), (share, value) in pairwise(points):
        if value < below:
            raise record.wrong(f"{what}_p{share * 100:.0f}", "is below the quantile before it")
    return Quantiles(tuple(points))
