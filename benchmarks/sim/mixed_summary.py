"""What a mix of variants costs beside each alone: in the terminal, as JSON, in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from shoal.benchmarks.report.charts import Chart, Series, draw
from shoal.benchmarks.report.html import page
from shoal.benchmarks.report.markup import Markup, element, join, table_of
from shoal.benchmarks.report.numbers import Quantity

from .mixed import MixedOutcome, MixedScenario

POINTS = 400
"""Of a line: more would not be seen."""
HEAD = ("variants", "SLO met", "cost", "tokens per cost", "replica hours", "TTFT p99", "changes")


def mixed_table(scenario: MixedScenario, outcomes: Sequence[MixedOutcome]) -> Table:
    """One load; the objective is marked where it was missed."""
    title = f"{scenario.name}: {len(scenario.requests):,} requests"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name == HEAD[0] else "right")
    for outcome in outcomes:
        cells = _cells(outcome)
        if outcome.attainment < scenario.attainment:
            cells[1] = f"[red]{cells[1]}[/red]"
        table.add_row(*cells)
    return table


def mixed_page(mixes: Mapping[str, Sequence[MixedOutcome]]) -> str:
    title = "Several kinds of GPU"
    return page(title, join(element("h1", title), *(_section(n, o) for n, o in mixes.items())))


def _section(name: str, outcomes: Sequence[MixedOutcome]) -> Markup:
    """A heading, a table, and the replicas of the mix over time."""
    lines = [
        element("tr", *(element("td", cell) for cell in _cells(outcome))) for outcome in outcomes
    ]
    series = outcomes[0].series
    every = max(len(series) // POINTS, 1)
    chart = Chart(
        title="Replicas of the mix, from their order until they are gone",
        series=[
            Series(
                name=variant,
                points=[(at, float(numbers[variant])) for at, numbers in series[::every]],
                colour=colour,
            )
            for colour, variant in enumerate(outcomes[0].hours)
        ],
        y=Quantity.NUMBER,
    )
    return join(
        element("h2", name),
        table_of(HEAD, lines),
        element("div", draw(chart), class_="charts"),
    )


def mixed_figures(outcomes: Sequence[MixedOutcome]) -> dict[str, object]:
    """As JSON holds them, by the variants that were there."""
    return {
        outcome.name: {
            "attainment": round(outcome.attainment, 4),
            "cost": round(outcome.cost, 3),
            "replica_hours": {name: round(hours, 3) for name, hours in outcome.hours.items()},
            "tokens_per_cost": round(outcome.tokens_per_cost),
            "changes": outcome.changes,
        }
        for outcome in outcomes
    }


def _cells(outcome: MixedOutcome) -> list[str]:
    hours = ", ".join(f"{value:.2f} {name}" for name, value in outcome.hours.items())
    return [
        outcome.name, f"{outcome.attainment:.2%}", f"{outcome.cost:.2f}",
        f"{outcome.tokens_per_cost:,.0f}", hours, f"{outcome.ttft_p99_s:.2f} s",
        str(outcome.changes),
    ]  # fmt: skip
