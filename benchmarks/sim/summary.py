"""A comparison of scalers in the terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from .compare import Comparison, rows
from .mixed import MixedOutcome
from .mixed_summary import mixed_figures


def terminal_table(comparison: Comparison) -> Table:
    """One load; the objective is marked where it was missed."""
    title = f"{comparison.scenario}: {comparison.num_requests:,} requests"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("scaler")
    for name in ("SLO met", "replica hours", "of the bound", "TTFT p99", "changes"):
        table.add_column(name, justify="right")
    for name, outcome, hours in rows(comparison):
        over = f"{hours / comparison.oracle_hours:.2f}"
        if outcome is None:
            table.add_row(name, "-", f"{hours:.2f}", over, "-", "-")
            continue
        missed = outcome.attainment < comparison.attainment
        met = f"{outcome.attainment:.2%}"
        table.add_row(
            name, f"[red]{met}[/red]" if missed else met, f"{hours:.2f}", over,
            f"{outcome.ttft_p99_s:.2f} s", str(outcome.changes),
        )  # fmt: skip
    return table


def as_json(
    comparisons: Sequence[Comparison], mixes: Mapping[str, Sequence[MixedOutcome]] | None = None
) -> str:
    """One line."""
    found: dict[str, object] = {
        "benchmark": "autoscale",
        "loads": {comparison.scenario: figures(comparison) for comparison in comparisons},
    }
    if mixes:
        found["mixes"] = {name: mixed_figures(outcomes) for name, outcomes in mixes.items()}
    return json.dumps(found)


def figures(comparison: Comparison) -> dict[str, object]:
    """Of one load, as JSON holds them."""
    saved = comparison.saved
    return {
        "requests": comparison.num_requests,
        "oracle_hours": round(comparison.oracle_hours, 3),
        "meets_objective": comparison.meets,
        "over_oracle": round(comparison.over_oracle, 3),
        "saved_to_best_other": None if saved is None else round(saved, 3),
        "scalers": {
            name: {
                "attainment": round(outcome.attainment, 4),
                "replica_hours": round(outcome.replica_hours, 3),
                "changes": outcome.changes,
                "turns": outcome.turns,
            }
            for name, outcome, _ in rows(comparison)
            if outcome is not None
        },
    }
