"""A comparison of scalers as a page: what came of it, a table, and plots over time."""

from __future__ import annotations

from collections.abc import Sequence

from shoal import __version__
from shoal.benchmarks.report.charts import Chart, Series, draw
from shoal.benchmarks.report.html import page
from shoal.benchmarks.report.markup import Markup, element, join, table_of
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
            "Simulated in virtual time. The lower bound knows each minute's load in advance and"
            " starts replicas at once; with all known ahead they still take their time to start."
            " Each other scaler has the best of several targets, chosen with hindsight.",
            class_="sub",
        ),
        *(_one(comparison) for comparison in comparisons),
        element("footer", f"Made by shoal autoscale simulate {__version__}."),
    )
    return page(title, body)


def _one(comparison: Comparison) -> Markup:
    return join(
        element("h2", f"{comparison.scenario}: {comparison.num_requests:,} requests"),
        _tiles(comparison),
        element("div", *_charts(comparison), class_="charts"),
        _table(comparison),
    )


def _tiles(comparison: Comparison) -> Markup:
    """What came of it, in four numbers."""
    best, saved = comparison.best_other, comparison.saved
    shoal = comparison.shoal
    known = comparison.ahead.replica_hours / comparison.oracle_hours - 1
    tiles = [
        (
            f"{shoal.attainment:.2%}",
            "of requests met the objective",
            f"{comparison.attainment:.0%} asked for" + ("" if comparison.meets else ": missed"),
            "good" if comparison.meets else "bad",
        ),
        (
            f"{shoal.replica_hours:.2f} h",
            "of replicas",
            f"{shoal.changes} changes, {shoal.turns} of them turns",
            None,
        ),
        (
            f"{comparison.over_oracle:+.0%}",
            "beside the lower bound",
            f"{known:+.0%} with all known ahead",
            None,
        ),
        (
            "-" if saved is None else f"{-saved:+.0%}",
            "beside the best other",
            "none met the objective" if best is None else best.policy,
            None if saved is None or not comparison.meets else "good" if saved > 0 else "bad",
        ),
    ]
    return element(
        "div",
        *(
            element("div", element("b", big, class_=kind), element("span", what),
                    element("small", more), class_="tile")
            for big, what, more, kind in tiles
        ),
        class_="tiles",
        style=f"--columns: {len(tiles)}",
    )  # fmt: skip


def _table(comparison: Comparison) -> Markup:
    lines = []
    for name, outcome, hours in rows(comparison):
        over = f"{hours / comparison.oracle_hours:.2f}"
        cells: list[Markup | str] = [name, "-", f"{hours:.2f}", over, "-", "-", "-"]
        if outcome is not None:
            met = outcome.attainment >= comparison.attainment
            cells[1] = element(
                "span", f"{outcome.attainment:.2%}{'' if met else ', missed'}",
                class_="good" if met else "bad",
            )  # fmt: skip
            cells[4:] = [
                f"{outcome.ttft_p50_s:.2f} s", f"{outcome.ttft_p99_s:.2f} s", str(outcome.changes),
            ]  # fmt: skip
        if outcome is comparison.shoal:
            cells[0] = element("b", name)
        lines.append(element("tr", *(element("td", cell) for cell in cells)))
    return table_of(HEAD, lines)


def _charts(comparison: Comparison) -> list[Markup | None]:
    best = comparison.best_other or max(comparison.others.values(), key=lambda o: o.attainment)
    shoal = comparison.shoal
    charts = [
        Chart(
            title="Replicas, from their order until they are gone",
            series=[
                Series(name="lower bound", points=_steps(comparison.oracle_series), colour=2),
                Series(name="Shoal", points=_replicas(shoal), colour=0),
                Series(name=best.policy, points=_replicas(best), colour=1),
            ],
            y=Quantity.NUMBER,
        ),
        Chart(
            title="Requests per second, means of a minute",
            series=[Series(name="load", points=_load(shoal), colour=4)],
            y=Quantity.NUMBER,
        ),
        Chart(
            title="Requests that met the objective, by the minute they came in, %",
            series=[
                Series(name="Shoal", points=_percent(shoal), colour=0),
                Series(name=best.policy, points=_percent(best), colour=1),
            ],
            y=Quantity.NUMBER,
            y_range=(_floor(shoal, best), 100.0),
            level=(100 * comparison.attainment, f"{comparison.attainment:.0%}"),
        ),
        Chart(
            title="Replica hours so far",
            series=[
                Series(name="lower bound", points=_bound_hours(comparison), colour=2),
                Series(name="Shoal", points=_hours(shoal), colour=0),
                Series(name=best.policy, points=_hours(best), colour=1),
                Series(
                    name=f"never scaled, {comparison.fixed.policy}",
                    points=_hours(comparison.fixed), colour=3, dashed=True,
                ),
            ],
            y=Quantity.NUMBER,
        ),
    ]  # fmt: skip
    return [draw(chart) for chart in charts]


def _floor(*outcomes: Outcome) -> float:
    """A round number of percent that no minute is below."""
    return 10.0 * int(min(10 * share for outcome in outcomes for _, share in outcome.met))


def _hours(outcome: Outcome) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = [(0.0, 0.0)]
    hours = before = 0.0
    for at, total, _, _ in outcome.series:
        if outcome.met and at > outcome.met[-1][0] + SMOOTH_S / 2:
            break
        hours += total * (at - before) / 3600
        before = at
        points.append((at, hours))
    return points[:: max(len(points) // POINTS, 1)]


def _bound_hours(comparison: Comparison) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = [(0.0, 0.0)]
    hours = 0.0
    for since, replicas in comparison.oracle_series:
        hours += replicas * WINDOW_S / 3600
        points.append((since + WINDOW_S, hours))
    return points


def _steps(series: Sequence[tuple[float, int]]) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    ends = [*(start for start, _ in series[1:]), series[-1][0] + WINDOW_S]
    for (start, replicas), end in zip(series, ends, strict=True):
        points += [(start, float(replicas)), (end, float(replicas))]
    return points


def _replicas(outcome: Outcome) -> list[tuple[float, float | None]]:
    """Steps of whole numbers, thinned; only the load's own time."""
    last = outcome.met[-1][0] + SMOOTH_S / 2 if outcome.met else float("inf")
    every = max(len(outcome.series) // POINTS, 1)
    points: list[tuple[float, float | None]] = []
    for at, total, _, _ in outcome.series[::every]:
        if at > last:
            break
        if points:
            points.append((at, points[-1][1]))
        points.append((at, float(total)))
    return points


def _percent(outcome: Outcome) -> list[tuple[float, float | None]]:
    return [(at, 100 * share) for at, share in outcome.met]


def _load(outcome: Outcome) -> list[tuple[float, float | None]]:
    sums: dict[int, tuple[float, int]] = {}
    for at, _, _, rate in outcome.series:
        total, count = sums.get(int(at / SMOOTH_S), (0.0, 0))
        sums[int(at / SMOOTH_S)] = (total + rate, count + 1)
    last = len(outcome.met) or len(sums)  # a minute that has only begun would seem quiet
    return [
        ((key + 0.5) * SMOOTH_S, total / count)
        for key, (total, count) in sums.items()
        if key < last
    ]
