"""A comparison of scalers as a page: a table, and replicas over time against the load."""

from __future__ import annotations

from collections.abc import Sequence

from shoal import __version__
from shoal.benchmarks.report.charts import Chart, Series, draw
from shoal.benchmarks.report.html import page
from shoal.benchmarks.report.markup import Markup, element, join
from shoal.benchmarks.report.numbers import Quantity

from .compare import Comparison, rows
from .oracle import WINDOW_S
from .simulate import Outcome

POINTS = 400
"""Of a line: more would not be seen."""
SMOOTH_S = 60.0

HEAD = ("scaler", "SLO met", "replica hours", "of the bound", "TTFT p50", "TTFT p99", "changes")


def render(comparisons: Sequence[Comparison]) -> str:
    """The whole page."""
    title = "Scalers beside one another"
    body = join(
        element("h1", title),
        element(
            "p",
            "Simulated in virtual time. The bound knows the load in advance and starts replicas at"
            " once; each other scaler has the best of several targets, chosen with hindsight.",
            class_="sub",
        ),
        *(_one(comparison) for comparison in comparisons),
        element("footer", f"Made by shoal autoscale simulate {__version__}."),
    )
    return page(title, body)


def _one(comparison: Comparison) -> Markup:
    return join(
        element("h2", f"{comparison.scenario}: {comparison.num_requests:,} requests"),
        element("div", _table(comparison), class_="scroll"),
        element("div", *_charts(comparison), class_="charts"),
    )


def _table(comparison: Comparison) -> Markup:
    lines = []
    for name, outcome, hours in rows(comparison):
        over = f"{hours / comparison.oracle_hours:.2f}"
        cells = [name, "-", f"{hours:.2f}", over, "-", "-", "-"]
        if outcome is not None:
            missed = "" if outcome.attainment >= comparison.attainment else ", missed"
            cells[1] = f"{outcome.attainment:.2%}{missed}"
            cells[4:] = [
                f"{outcome.ttft_p50_s:.2f} s", f"{outcome.ttft_p99_s:.2f} s", str(outcome.changes),
            ]  # fmt: skip
        lines.append(element("tr", *(element("td", cell) for cell in cells)))
    head = element("tr", *(element("th", cell) for cell in HEAD))
    return element("table", element("thead", head), element("tbody", *lines))


def _charts(comparison: Comparison) -> list[Markup | None]:
    best = comparison.best_other or max(comparison.others.values(), key=lambda o: o.attainment)
    bound = Series(name="lower bound", points=_steps(comparison.oracle_series), colour=2)
    replicas = Chart(
        title="Replicas, from their order until they are gone",
        series=[
            bound,
            Series(name="Shoal", points=_replicas(comparison.shoal), colour=0),
            Series(name=best.policy, points=_replicas(best), colour=1),
        ],
        y=Quantity.NUMBER,
    )
    load = Chart(
        title="Requests per second, means of a minute",
        series=[Series(name="load", points=_load(comparison.shoal), colour=4)],
        y=Quantity.NUMBER,
    )
    return [draw(replicas), draw(load)]


def _steps(series: Sequence[tuple[float, int]]) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    ends = [*(start for start, _ in series[1:]), series[-1][0] + WINDOW_S]
    for (start, replicas), end in zip(series, ends, strict=True):
        points += [(start, float(replicas)), (end, float(replicas))]
    return points


def _replicas(outcome: Outcome) -> list[tuple[float, float | None]]:
    every = max(len(outcome.series) // POINTS, 1)
    return [(at, float(total)) for at, total, _, _ in outcome.series[::every]]


def _load(outcome: Outcome) -> list[tuple[float, float | None]]:
    sums: dict[int, tuple[float, int]] = {}
    for at, _, _, rate in outcome.series:
        total, count = sums.get(int(at / SMOOTH_S), (0.0, 0))
        sums[int(at / SMOOTH_S)] = (total + rate, count + 1)
    return [((key + 0.5) * SMOOTH_S, total / count) for key, (total, count) in sums.items()]
