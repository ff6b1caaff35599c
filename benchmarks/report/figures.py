"""The figures of a run that reports show, each with its label, its unit and which way is better.

Keys are those of `RunResult.intervals` and `CompareResult.ratios`: `ttft_p99_s`,
`output_tokens_per_s`. A key this file does not know is shown under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shoal.benchmarks.result import Distribution, RunResult

from . import numbers
from .numbers import Quantity

PERCENTILES = ("p50", "p90", "p95", "p99")
COLUMNS = ("mean", *PERCENTILES, "max")
"""Statistics of a distribution that tables show, with the names of its fields."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the latencies of a run."""

    field: str
    """In `RunResult`."""
    label: str
    meaning: str
    per_request: bool = True
    """False for gaps between tokens, of which a request has many."""

    def of(self, run: RunResult) -> Distribution:
        distribution: Distribution = getattr(run, self.field)
        return distribution


MEASURES = (
    Measure("ttft_s", "TTFT", "time to first token"),
    Measure("itl_s", "ITL", "gap between tokens", per_request=False),
    Measure("tpot_s", "TPOT", "time per output token after the first"),
    Measure("e2e_s", "E2E", "whole answer"),
)
SEND_DELAY = Measure("send_delay_s", "Send delay", "how late the client itself was")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a run."""

    key: str
    label: str
    quantity: Quantity
    of: str = ""
    """What is counted, for rates: `tok/s`."""
    higher_is_better: bool | None = None
    """None where neither way is better."""

    def text(self, value: float | None) -> str:
        """The value with its unit."""
        text = numbers.text(value, self.quantity)
        return f"{text} {self.of}" if self.of and numbers.is_known(value) else text


RATES = (
    Figure("output_tokens_per_s", "Output", Quantity.NUMBER, "tok/s", True),
    Figure("total_tokens_per_s", "Prompt + output", Quantity.NUMBER, "tok/s", True),
    Figure("requests_per_s", "Requests", Quantity.NUMBER, "req/s", True),
    Figure("goodput_requests_per_s", "Goodput", Quantity.NUMBER, "req/s", True),
    Figure("goodput_attainment", "Attainment", Quantity.SHARE, "", True),
)
_KNOWN = {figure.key: figure for figure in RATES}
_LATENCY = re.compile(r"(ttft|itl|tpot|e2e|send_delay)_(mean|std|min|p\d\d|max)_s")
_LABELS = {measure.field: measure.label for measure in (*MEASURES, SEND_DELAY)}


def figure(key: str) -> Figure:
    """The figure of that key."""
    if key in _KNOWN:
        return _KNOWN[key]
    if match := _LATENCY.fullmatch(key):
        label = f"{_LABELS[match[1] + '_s']} {match[2]}"
        return Figure(key, label, Quantity.SECONDS, higher_is_better=False)
    return Figure(key, key.replace("_", " "), Quantity.NUMBER)


def value(run: RunResult, key: str) -> float | None:
    """The figure in that run; None when the run does not have it."""
    if match := _LATENCY.fullmatch(key):
        found: float | None = getattr(getattr(run, match[1] + "_s"), match[2], None)
        return found
    if key == "goodput_requests_per_s":
        return run.goodput.requests_per_s if run.goodput else None
    if key == "goodput_attainment":
        return run.goodput.attainment if run.goodput else None
    found = getattr(run, key, None)
    return found if isinstance(found, float | int) else None


def side_by_side(runs: Iterable[RunResult]) -> list[Figure]:
    """The figures worth a row when runs stand beside each other: those that any of them has."""
    keys = [figure.key for figure in RATES]
    keys += [f"{m.field.removesuffix('_s')}_{p}_s" for m in MEASURES for p in ("p50", "p90", "p99")]
    runs = list(runs)
    return [figure(key) for key in keys if any(numbers.is_known(value(run, key)) for run in runs)]


def is_shaky(statistic: str, count: int) -> bool:
    """Whether a percentile rests on too few samples to be one.

    The p99 needs a hundred samples, the p90 ten: below, it is little else than the largest value.
    Without a sample there is no percentile to doubt.
    """
    if not re.fullmatch(r"p\d\d", statistic):
        return False
    return 0 < count * (100 - int(statistic[1:])) < 100


SHAKY_NOTE = (
    "~ too few samples for this percentile, read it as the slowest ones seen"
    " (p99 needs 100 samples, p95 20, p90 10)."
)


def is_shaky_in(run: RunResult, key: str) -> bool:
    """`is_shaky` for a figure of a run; False for what is not a percentile, or not there."""
    match = _LATENCY.fullmatch(key)
    if match is None or value(run, key) is None:
        return False
    return is_shaky(match[2], getattr(run, match[1] + "_s").count)


def better(figure: Figure, ratio: float) -> bool | None:
    """Whether a ratio above or below one is an improvement; None where neither way is."""
    if figure.higher_is_better is None or ratio == 1:
        return None
    return (ratio > 1) is figure.higher_is_better
