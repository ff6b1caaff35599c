"""Parts of a report in words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shoal.benchmarks.result import CompareResult, Interval, RunResult, Sweep

from . import numbers
from .figures import (
    COLUMNS,
    MEASURES,
    SEND_DELAY,
    Figure,
    better,
    figure,
    is_shaky,
    is_shaky_in,
    side_by_side,
    value,
)
from .markup import Markup, element, table_of
from .numbers import Quantity, unit_for

NUM_COUNTERS = 40
MAX_TILES_IN_A_ROW = 6
"""More become rows of even length."""


def tiles(run: RunResult) -> Markup:
    """What one looks at first."""
    failed = run.num_requests - run.num_succeeded
    found = [
        ("Output", numbers.rate(run.output_tokens_per_s, "tok"), _of(run, "output_tokens_per_s")),
        ("Requests", numbers.rate(run.requests_per_s, "req"), _offered(run)),
        ("TTFT p50", numbers.seconds(run.ttft_s.p50), _of(run, "ttft_p50_s")),
        (_shaky("TTFT p99", "p99", run.ttft_s.count), numbers.seconds(run.ttft_s.p99),
         _of(run, "ttft_p99_s")),
        ("ITL p50", numbers.seconds(run.itl_s.p50), _of(run, "itl_p50_s")),
        (_shaky("ITL p99", "p99", run.itl_s.count), numbers.seconds(run.itl_s.p99),
         _of(run, "itl_p99_s")),
    ]  # fmt: skip
    if run.goodput is not None:
        limits = ", ".join(_whole(f"{name.upper()} {numbers.seconds(limit)}")
                           for name, limit in run.goodput.slo.items())  # fmt: skip
        found.append(("Goodput", numbers.share(run.goodput.attainment), f"within {limits}"))
    if run.cached_tokens is not None and run.prompt_tokens:
        share = numbers.share(run.cached_tokens / run.prompt_tokens)
        found.append(("Prefix cache", share, "of prompt tokens"))
    found.append(("Failed", numbers.count(failed), f"of {numbers.count(run.num_requests)}"))
    num_rows = math.ceil(len(found) / MAX_TILES_IN_A_ROW)
    return element(
        "div",
        *(
            element("div", element("span", label), element("b", text), element("small", note),
                    class_="tile")
            for label, text, note in found
        ),
        class_="tiles",
        style=f"--columns: {math.ceil(len(found) / num_rows)}",
    )  # fmt: skip


def _whole(text: str) -> str:
    """Text that no line break parts."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def warnings(texts: Sequence[str]) -> Markup | None:
    if not texts:
        return None
    return element("ul", *(element("li", text) for text in texts), class_="warnings")


def latencies(run: RunResult) -> Markup:
    """Percentiles with their counts; intervals below the figures that have them."""
    rows = []
    for measure in (*MEASURES, SEND_DELAY):
        distribution = measure.of(run)
        if distribution.count == 0:
            continue
        unit = unit_for(Quantity.SECONDS, [distribution.p50, distribution.p99])
        cells = [f"{measure.label} ({unit.symbol})", numbers.count(distribution.count)]
        parts = [element("td", cell) for cell in cells]
        for column in COLUMNS:
            number = unit.number(getattr(distribution, column))
            mark = "~" if is_shaky(column, distribution.count) else ""
            key = f"{measure.field.removesuffix('_s')}_{column}_s"
            spread = _spread(run.intervals.get(key), unit)
            small = element("small", spread) if spread else None
            parts.append(element("td", f"{mark}{number}", small))
        rows.append(element("tr", *parts))
    return table_of(["", "samples", *COLUMNS], rows)


def side_by_side_table(runs: Sequence[RunResult]) -> Markup:
    """Figures of several runs, each with its ratio to the first."""
    rows = []
    for of in side_by_side(runs):
        base = value(runs[0], of.key)
        cells = [element("td", of.label)]
        for index, run in enumerate(runs):
            found = value(run, of.key)
            mark = "~" if is_shaky_in(run, of.key) else ""
            note = None if index == 0 else _to_first(of, found, base)
            cells.append(element("td", mark + of.text(found), note))
        rows.append(element("tr", *cells))
    return table_of(["", *(run.name for run in runs)], rows)


def sweep_table(sweep: Sweep) -> Markup:
    rows = [
        element(
            "tr",
            *(
                element("td", cell)
                for cell in (
                    numbers.rate(step.rate, "req"),
                    numbers.share(step.attainment),
                    numbers.rate(step.requests_per_s, "req"),
                    numbers.rate(step.output_tokens_per_s, "tok"),
                    numbers.seconds(step.ttft_p50_s),
                    _shaky(numbers.seconds(step.ttft_p99_s), "p99",
                           0 if step.ttft_p99_s is None else step.num_requests),
                    numbers.count(step.num_requests),
                )
            ),
            element("td", "held" if step.passed else "failed",
                    class_="good" if step.passed else "bad"),
        )
        for step in sorted(sweep.steps, key=lambda step: step.rate)
    ]  # fmt: skip
    head = ["offered", "met", "answered", "output", "TTFT p50", "TTFT p99", "requests", ""]
    return table_of(head, rows)


def ratios_table(result: CompareResult) -> Markup:
    rows = []
    for key, ratio in result.ratios.items():
        of = figure(key)
        spread = "–"
        if ratio.low is not None and ratio.high is not None:
            spread = f"{numbers.ratio(ratio.low)} – {numbers.ratio(ratio.high)}"
        sides = [
            ("~" if is_shaky_in(run, key) else "") + of.text(value(run, key))
            for run in (result.a, result.b)
        ]
        cells = (of.label, *sides, numbers.ratio(ratio.geometric_mean), spread,
                 numbers.count(len(ratio.pairs)))  # fmt: skip
        rows.append(element("tr", *(element("td", cell) for cell in cells)))
    return table_of(["", result.a.name, result.b.name, "A / B", "95 % interval", "pairs"], rows)


def errors(run: RunResult) -> Markup | None:
    """Failed requests by kind, with what the first of each said."""
    if not run.errors:
        return None
    rows = [
        element("tr", element("td", kind), element("td", numbers.count(count)),
                element("td", run.error_examples.get(kind, ""), class_="text"))
        for kind, count in run.errors.items()
    ]  # fmt: skip
    return table_of(["failed", "requests", "for example"], rows)


def counters(run: RunResult) -> Markup | None:
    """What the server counted during the run."""
    if run.server is None or not run.server.counters:
        return None
    found = sorted(run.server.counters.items())[:NUM_COUNTERS]
    rows = [element("tr", element("td", k), element("td", numbers.number(v))) for k, v in found]
    return element("details", element("summary", "Counters of the server, growth over the run"),
                   table_of(["", ""], rows))  # fmt: skip


def facts(title: str, values: dict[str, Any]) -> Markup | None:
    """Configuration or environment as a list of names and values."""
    pairs = [(name, text) for name, text in _flat(values) if text not in ("", "null")]
    if not pairs:
        return None
    entries = [part for k, v in pairs for part in (element("dt", k), element("dd", v))]
    return element("details", element("summary", title), element("dl", *entries))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, found in values.items():
        if isinstance(found, dict):
            yield from _flat(found, f"{prefix}{name}.")
        else:
            text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
            yield f"{prefix}{name}", text


def _of(run: RunResult, key: str) -> str:
    """The interval of a figure, if there is one."""
    interval = run.intervals.get(key)
    return _spread(interval, unit_for(figure(key).quantity, [interval.mean])) if interval else ""


def _offered(run: RunResult) -> str:
    if run.offered_requests_per_s is None:
        return ""
    return f"of {numbers.rate(run.offered_requests_per_s, 'req')} offered"


def _spread(interval: Interval | None, unit: numbers.Unit) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"{unit.number(interval.low)} – {unit.number(interval.high)}"


def _shaky(text: str, statistic: str, count: int) -> str:
    return f"~{text}" if is_shaky(statistic, count) else text


def _to_first(of: Figure, found: float | None, base: float | None) -> Markup | None:
    if not numbers.is_known(found) or not numbers.is_known(base) or base == 0:
        return None
    ratio = found / base
    verdict = better(of, ratio)
    colour = None if verdict is None else "good" if verdict else "bad"
    return element("small", numbers.ratio(ratio), class_=colour)
