"""Results in the terminal, as renderables of rich.

Names and error texts are never read as markup. A figure marked `~` is a percentile of too few
samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shoal.benchmarks.result import CompareResult, Interval, Result, RunResult, Sweep

from . import numbers
from .figures import (
    COLUMNS,
    MEASURES,
    SEND_DELAY,
    SHAKY_NOTE,
    Figure,
    Measure,
    better,
    figure,
    is_shaky,
    is_shaky_in,
    side_by_side,
    value,
)
from .importers import runs_of
from .numbers import Quantity, unit_for
from .untrusted import one_line

INTERVAL_NOTE = "[low – high]: 95 % interval of the mean over repeats."


def report_table(results: Sequence[Result]) -> RenderableType:
    """What suits the results: one run, one comparison, or several runs side by side."""
    if len(results) > 1:
        return several_table(results)
    (result,) = results
    if isinstance(result, CompareResult):
        return compare_table(result)
    if result.sweep is not None:
        return Group(run_table(result), sweep_table(result.sweep))
    return run_table(result)


def run_table(result: RunResult) -> RenderableType:
    """One run: rates, latencies with their counts, errors and warnings."""
    parts: list[RenderableType] = [_heading(result), _rates(result), _latencies(result)]
    notes = []
    if any(is_shaky_in(result, f"{m.field[:-2]}_{c}_s") and m.of(result).count
           for m in MEASURES for c in COLUMNS):  # fmt: skip
        notes.append(SHAKY_NOTE)
    if _has_spread(result.intervals.values()):
        notes.append(INTERVAL_NOTE)
    return Group(*parts, *_errors(result), *_footnotes(notes), *_warnings(result.warnings))


def sweep_table(sweep: Sweep) -> RenderableType:
    """Every rate that was tried, from low to high, and the highest that held."""
    found = (
        Text(f"Highest rate that held: {numbers.rate(sweep.best_rate, 'req')}", style="bold")
        if sweep.best_rate is not None
        else Text("No rate held: even the lowest one failed.", style="bold")
    )
    found.append(f"  (target: {numbers.share(sweep.target)} of requests)", style="dim")
    steps = sorted(sweep.steps, key=lambda step: step.rate)
    ttft = unit_for(Quantity.SECONDS, [step.ttft_p99_s for step in steps])
    tpot = unit_for(Quantity.SECONDS, [step.tpot_p99_s for step in steps])
    table = _table("rate\nreq/s", "\nmet", "", "done\nreq/s", "output\ntok/s",
                   f"TTFT\np50 {ttft.symbol}", f"\np99 {ttft.symbol}",
                   f"TPOT\np50 {tpot.symbol}", f"\np99 {tpot.symbol}", "\nsent")  # fmt: skip
    table.columns[2].justify = "left"
    for step in steps:
        few = "~" if is_shaky("p99", step.num_requests) else ""
        _row(
            table,
            numbers.number(step.rate),
            numbers.share(step.attainment),
            Text("held", style="green") if step.passed else Text("failed", style="red"),
            numbers.number(step.requests_per_s),
            numbers.number(step.output_tokens_per_s),
            ttft.number(step.ttft_p50_s),
            (few if step.ttft_p99_s is not None else "") + ttft.number(step.ttft_p99_s),
            tpot.number(step.tpot_p50_s),
            (few if step.tpot_p99_s is not None else "") + tpot.number(step.tpot_p99_s),
            numbers.count(step.num_requests),
        )
    shaky = any(is_shaky("p99", step.num_requests) for step in sweep.steps)
    return Group(found, table, *_footnotes([SHAKY_NOTE] if shaky else []))


def compare_table(result: CompareResult) -> RenderableType:
    """A beside B: the ratio of each figure, its interval over pairs, and who is ahead."""
    a, b = one_line(result.a.name, max_chars=40), one_line(result.b.name, max_chars=40)
    num_pairs = max((len(ratio.pairs) for ratio in result.ratios.values()), default=0)
    heading = Text.assemble((f"A: {a}", "bold"), "  ", (f"B: {b}", "bold"),
                            (f"  {num_pairs} pairs in turns", "dim"))  # fmt: skip
    table = _table("", "A", "B", "A / B", "95 % interval", "ahead")
    table.columns[5].justify = "left"
    shaky = False
    for key, ratio in result.ratios.items():
        of = figure(key)
        values = [value(run, key) for run in (result.a, result.b)]
        marks = ["~" if is_shaky_in(run, key) else "" for run in (result.a, result.b)]
        shaky = shaky or any(marks)
        cells = [m + of.text(v) for v, m in zip(values, marks, strict=True)]
        interval = (
            f"{numbers.ratio(ratio.low)} – {numbers.ratio(ratio.high)}"
            if ratio.low is not None and ratio.high is not None
            else numbers.MISSING
        )
        _row(
            table,
            of.label,
            *cells,
            Text(numbers.ratio(ratio.geometric_mean), style="bold"),
            interval,
            _ahead(of, ratio.low, ratio.high),
        )
    notes = ["A / B: geometric mean over pairs of neighbouring runs."]
    notes += [SHAKY_NOTE] if shaky else []
    warnings = [*result.warnings]
    warnings += [f"{run.name}: {text}" for run in (result.a, result.b) for text in run.warnings]
    return Group(
        heading, table, *_errors(result.a), *_errors(result.b), *_footnotes(notes),
        *_warnings(warnings)
    )  # fmt: skip


def several_table(results: Sequence[Result]) -> RenderableType:
    """The same figures of several runs, with ratios to the first."""
    runs = runs_of(results)
    table = _table("", *(one_line(run.name, max_chars=30) for run in runs))
    shaky = False
    for of in side_by_side(runs):
        first = value(runs[0], of.key)
        row: list[str | Text] = [of.label]
        for index, run in enumerate(runs):
            own = value(run, of.key)
            mark = "~" if is_shaky_in(run, of.key) and own is not None else ""
            shaky = shaky or bool(mark)
            cell = Text(mark + of.text(own))
            if index and first and own is not None:
                ratio = own / first
                style = {True: "green", False: "red", None: "dim"}[better(of, ratio)]
                cell.append(f"  {numbers.ratio(ratio)}", style=style)
            row.append(cell)
        _row(table, *row)
    _row(table, "Requests failed",
        *(f"{numbers.count(_num_failed(run))} of {numbers.count(run.num_requests)}"
          for run in runs),
    )  # fmt: skip
    notes = [
        "×: ratio to the first run. Runs made at different times carry the noise of the machine."
    ]
    warnings = [f"{run.name}: {text}" for run in runs for text in run.warnings]
    return Group(
        table, *_footnotes(notes + ([SHAKY_NOTE] if shaky else [])), *_warnings(warnings)
    )  # fmt: skip


def _heading(run: RunResult) -> RenderableType:
    facts = [
        one_line(run.created),
        numbers.duration(run.duration_s),
        f"{numbers.count(run.num_requests)} requests",
    ]
    heading = Text.assemble((one_line(run.name), "bold"), "  ",
                            (" · ".join(fact for fact in facts if fact), "dim"))  # fmt: skip
    if run.interrupted:
        heading.append("  interrupted", style="bold yellow")
    return heading


def _rates(run: RunResult) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    grid.add_column(style="dim")
    keys = ("output_tokens_per_s", "total_tokens_per_s", "requests_per_s")
    for of in map(figure, keys):
        notes = [_interval(of, run.intervals.get(of.key))]
        if of.key == "requests_per_s" and run.offered_requests_per_s is not None:
            notes.append(f"of {numbers.rate(run.offered_requests_per_s, 'req')} offered")
        _row(grid, of.label, of.text(value(run, of.key)), "  ".join(filter(None, notes)))
    if run.goodput is not None:
        slo = ", ".join(f"{one_line(k).upper()} ≤ {numbers.seconds(v)}"
                        for k, v in run.goodput.slo.items())  # fmt: skip
        _row(
            grid,
            "Goodput",
            numbers.rate(run.goodput.requests_per_s, "req"),
            f"{numbers.share(run.goodput.attainment)} met {slo or 'the objectives'}",
        )
    if run.cached_tokens is not None and run.prompt_tokens:
        hit = numbers.share(run.cached_tokens / run.prompt_tokens)
        _row(grid, "Prefix cache", hit, "of prompt tokens")
    return grid


def _latencies(run: RunResult) -> RenderableType:
    table = _table("", "samples", *COLUMNS)
    measures = [m for m in (*MEASURES, SEND_DELAY) if m.of(run).count]
    if not measures:
        return Text("No answer was complete: there are no latencies.", style="yellow")
    for measure in measures:
        of = measure.of(run)
        values = [getattr(of, column) for column in COLUMNS]
        unit = unit_for(Quantity.SECONDS, values)
        cells = [
            ("~" if is_shaky(column, of.count) and v is not None else "") + unit.number(v)
            for column, v in zip(COLUMNS, values, strict=True)
        ]
        label = Text.assemble(measure.label, (f" {unit.symbol}", "dim"))
        style = "dim" if measure is SEND_DELAY else None
        _row(table, label, numbers.count(of.count), *cells, style=style)
        spreads = [_spread(run.intervals.get(_key(measure, column)), unit) for column in COLUMNS]
        if any(spreads):
            _row(table, "", "", *spreads, style="dim")
    return table


def _key(measure: Measure, column: str) -> str:
    return f"{measure.field.removesuffix('_s')}_{column}_s"


def _spread(interval: Interval | None, unit: numbers.Unit) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{unit.number(interval.low)} – {unit.number(interval.high)}]"


def _interval(of: Figure, interval: Interval | None) -> str:
    return _spread(interval, unit_for(of.quantity, [interval.mean])) if interval else ""


def _has_spread(intervals: Iterable[Interval]) -> bool:
    return any(interval.low is not None for interval in intervals)


def _ahead(of: Figure, low: float | None, high: float | None) -> Text:
    """Who is ahead, said only where the whole interval lies on one side of even."""
    if low is None or high is None:
        return Text("cannot tell", style="dim")
    if low <= 1 <= high:
        return Text("neither", style="dim")
    a_is_better = better(of, low)
    if a_is_better is None:
        return Text("")
    return Text("A", style="bold cyan") if a_is_better else Text("B", style="bold magenta")


def _num_failed(run: RunResult) -> int:
    return sum(run.errors.values())


def _errors(run: RunResult) -> list[RenderableType]:
    if not run.errors:
        return []
    failed = f"{numbers.count(_num_failed(run))} of {numbers.count(run.num_requests)}"
    text = Text(f"{one_line(run.name)}: {failed} requests failed", style="bold red")
    for kind, num in run.errors.items():
        text.append(f"\n  {numbers.count(num)} {one_line(kind)}", style="red")
        if example := run.error_examples.get(kind):
            text.append(f"  {one_line(example)}", style="dim not bold")
    return [text]


def _warnings(warnings: Sequence[str]) -> list[RenderableType]:
    return [Text(f"warning: {one_line(text, max_chars=500)}", style="yellow") for text in warnings]


def _footnotes(notes: Sequence[str]) -> list[RenderableType]:
    return [Text(note, style="dim") for note in notes]


def _row(table: Table, *cells: str | Text, style: str | None = None) -> None:
    """Add a row of which nothing is read as markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def _table(first: str, *columns: str) -> Table:
    # A terminal of 80 columns must hold it: a number that is cut off is none.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text(first), no_wrap=True)
    for column in columns:
        table.add_column(Text(column), justify="right")
    return table
