"""ServeGen: a service as the sum of its clients, each with rates and lengths that change.

The rates are a CSV of windows of 600 s: `workload, client_id, window_start_s, rate_rps, cv,
arrival_dist` (Gamma or Weibull), `shape, scale`. The lengths, if there are any, are quantiles in a
file beside it, of the same name with `lengths` for `rates`. The figures come from Xiang et al.,
"ServeGen", arXiv 2505.09999 (github.com/alibaba/ServeGen).

The arrivals of a client are a renewal process whose gaps have mean one and the shape that was
fitted for the window, sent through the inverse of the client's cumulative rate (as in
`rate_shapes`). So the mean over many requests is the published rate; `scale`, which says the same
mean once more and for bursty windows contradicts it, is not used. A client is joined at a moment of
no importance to it: if all began with a gap of their own, their bursts would fall together on the
first seconds of a replay. After the last window the first comes again.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from random import Random

from shoal.errors import ConfigError

from ..lengths import Fixed, Lengths
from .records import Record, read_records
from .row import TraceRow
from .servegen_lengths import ClientLengths, read_lengths

WINDOW_S = 600.0
COLUMNS = ("workload", "client_id", "window_start_s", "rate_rps", "arrival_dist", "shape")
MIN_SHAPE = 0.01
"""Little below it the mean of a Weibull distribution is too large for a floating-point number."""


@dataclass(frozen=True, slots=True)
class Window:
    """How one client sends for 600 s."""

    start_s: float
    rate: float
    distribution: str
    shape: float

    def gap(self, rng: Random) -> float:
        """A gap to the next request, in gaps of mean length."""
        if self.distribution == "Gamma":
            return rng.gammavariate(self.shape, 1 / self.shape)
        return rng.weibullvariate(1 / math.gamma(1 + 1 / self.shape), self.shape)

    def rest_of_gap(self, rng: Random) -> float:
        """What is left of the gap that a random moment falls into.

        A long gap is met more often than a short one, in proportion to its length; any share of
        it may be over (Cox, *Renewal Theory*, 1962).
        """
        if self.distribution == "Gamma":
            whole = rng.gammavariate(self.shape + 1, 1 / self.shape)
        else:
            power = 1 / self.shape
            whole = rng.gammavariate(1 + power, 1.0) ** power / math.gamma(1 + power)
        return rng.random() * whole


@dataclass(frozen=True, slots=True)
class Client:
    """Its windows in order, and how long its prompts and answers are."""

    name: str
    windows: tuple[Window, ...]
    lengths: ClientLengths

    def arrivals(self, rng: Random, *, first_s: float, period_s: float) -> Iterator[float]:
        """Seconds from the start of the trace, rising, endless."""
        num_in_round = WINDOW_S * math.fsum(window.rate for window in self.windows)
        # Of a gap of many rounds, nobody wants to wait for more than the last.
        gap = self.windows[0].rest_of_gap(rng) % num_in_round
        for round_s in itertools.count(-first_s, period_s):
            for window in self.windows:
                begin_s = now_s = window.start_s + round_s
                # What is left of a gap at the end of a window goes on at the next window's rate.
                while (now_s := now_s + gap / window.rate) < begin_s + WINDOW_S:
                    yield now_s
                    gap = window.gap(rng)
                gap = (now_s - begin_s - WINDOW_S) * window.rate

    def rows(self, seed: int, *, first_s: float, period_s: float) -> Iterator[TraceRow]:
        """Requests of this client alone."""
        rng = Random(f"servegen:{seed}:{self.name}")
        for start_s in self.arrivals(rng, first_s=first_s, period_s=period_s):
            num_input, num_output = self.lengths.at(first_s + start_s % period_s)
            yield TraceRow(start_s, num_input.sample(rng), num_output.sample(rng))


@dataclass(slots=True)
class GeneratedRows:
    """The requests of all clients, generated as far as they are asked for, and kept."""

    rest: Iterator[TraceRow]
    known: list[TraceRow] = field(default_factory=list)

    num_rows = None

    def row(self, index: int) -> TraceRow:
        if index >= len(self.known):
            self.known.extend(itertools.islice(self.rest, index + 1 - len(self.known)))
        return self.known[index]

    def __iter__(self) -> Iterator[TraceRow]:
        return map(self.row, itertools.count())


def read_servegen(
    path: Path,
    *,
    service: str | None,
    fallback: tuple[Lengths | None, Lengths | None],
    seed: int,
) -> GeneratedRows:
    """The requests of one service (the column `workload`), from the first window on.

    `fallback` are the lengths of prompts and answers of clients that have none of their own;
    None is a fixed length of 512 or 128.
    Raises ConfigError naming line and column for whatever does not fit, and when the file has
    several services and `service` does not choose one.
    """
    windows = _read_windows(path)
    chosen = _choose({of for of, _ in windows}, service, path)
    lengths = read_lengths(path.with_name(path.name.replace("rates", "lengths")), beside=path)
    default = ClientLengths.always(fallback[0] or Fixed(512), fallback[1] or Fixed(128))
    clients = [
        Client(name, tuple(of_client), lengths.get((of, name), default))
        for (of, name), of_client in windows.items()
        if of == chosen
    ]
    first_s = min(client.windows[0].start_s for client in clients)
    period_s = max(client.windows[-1].start_s for client in clients) + WINDOW_S - first_s
    streams = (client.rows(seed, first_s=first_s, period_s=period_s) for client in clients)
    return GeneratedRows(heapq.merge(*streams, key=attrgetter("start_s")))


Key = tuple[str, str]
"""A service and a client of it."""


def _read_windows(path: Path) -> dict[Key, list[Window]]:
    """Busy windows of each client. Raises ConfigError for values that do not fit."""
    windows: dict[Key, list[Window]] = {}
    for record in read_records(path):
        rate = record.number("rate_rps")
        if rate == 0:
            continue
        window = Window(
            record.number("window_start_s"), rate, _distribution(record), _shape(record)
        )
        of_client = windows.setdefault((record.text("workload"), record.text("client_id")), [])
        if of_client and window.start_s < of_client[-1].start_s + WINDOW_S:
            raise record.wrong(
                "window_start_s",
                f"is not {WINDOW_S:g} s or more after the client's window before it,"
                f" {of_client[-1].start_s:g}",
            )
        of_client.append(window)
    if not windows:
        raise ConfigError(f"{path} has no window with a rate above 0")
    return windows


def _distribution(record: Record) -> str:
    name = record.text("arrival_dist")
    if name not in ("Gamma", "Weibull"):
        raise record.wrong("arrival_dist", "is neither Gamma nor Weibull")
    return name


def _shape(record: Record) -> float:
    shape = record.number("shape")
    if shape < MIN_SHAPE:
        raise record.wrong("shape", f"is below {MIN_SHAPE:g}")
    return shape


def _choose(services: set[str], service: str | None, path: Path) -> str:
    """The service to replay. Raises ConfigError when that is not clear."""
    names = ", ".join(sorted(services))
    if service is None:
        if len(services) > 1:
            raise ConfigError(
                f"{path} holds several services ({names}): choose one with the format"
                f" servegen:NAME, for example servegen:{min(services)}"
            )
        return next(iter(services))
    if service not in services:
        raise ConfigError(f"{path} has no service {service!r}; it has: {names}")
    return service
