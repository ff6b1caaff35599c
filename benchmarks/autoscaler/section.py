"""The figures of `make bench-autoscaler` as a section of RESULTS.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..sim.compare import ATTAINMENT

COMMAND = "make bench-autoscaler"
MOST_OVER_BOUND, LEAST_SAVED = 0.15, 0.25
"""What is aimed at."""


def section(result: Mapping[str, Any]) -> str:
    loads: Mapping[str, Any] = result["loads"]
    machine = result["environment"]
    lines = [
        "# Shoal's autoscaler beside others",
        "",
        f"Made by `{COMMAND}` from [results/autoscaler.json](results/autoscaler.json): do not",
        "edit. An hour of load (two for `bursts`) in virtual time, with the decisions that run in",
        "production and nothing learnt beforehand. Replicas take a minute to start and are paid",
        "from their order until they are gone. HPA, KPA and KEDA have the best of several targets",
        "each, chosen with hindsight on the same load. Aimed at: 99 % of requests within the",
        f"objective, at most {MOST_OVER_BOUND:.0%} above the bound, and {LEAST_SAVED:.0%} below the"
        " best of the others",
        "that meets it.",
        "",
        f"- Date: {result['date']}",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores; {machine['os']}, Python"
        f" {machine['python']}; outcomes do not depend on it",
        f"- Shoal: commit {machine['commit']}",
        f"- Command: `{machine['command']}`",
        "",
        "| load | SLO met | of the bound | all known ahead | best other | saved | aims |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(name, figures) for name, figures in loads.items()]
    lines += [
        "",
        "*All known ahead* has the replicas of the bound, started in time: what no scaler can do",
        "without. *Never scaled* is the smallest fixed number that meets the objective, found with",
        "hindsight.",
    ]
    for name, figures in loads.items():
        lines += ["", f"## {name}: {figures['requests']:,} requests", ""]
        lines += [
            "| scaler | SLO met | replica hours | of the bound | changes |",
            "|---|---|---|---|---|",
        ]
        lines.append(f"| lower bound | - | {figures['oracle_hours']:.2f} | 1.00 | - |")
        for scaler, found in figures["scalers"].items():
            hours = found["replica_hours"]
            lines.append(
                f"| {scaler} | {found['attainment']:.2%} | {hours:.2f} |"
                f" {hours / figures['oracle_hours']:.2f} | {found['changes']} |"
            )
    return "\n".join(lines)


def _line(name: str, figures: Mapping[str, Any]) -> str:
    scalers, bound = figures["scalers"], figures["oracle_hours"]
    shoal, ahead = scalers["Shoal"], scalers["all known ahead"]
    saved = figures["saved_to_best_other"]
    others = {
        scaler: found
        for scaler, found in scalers.items()
        if scaler not in ("Shoal", "all known ahead") and not scaler.startswith("never")
    }
    best = "none meets it"
    if saved is not None:
        meeting = {k: v for k, v in others.items() if v["attainment"] >= ATTAINMENT}
        cheapest = min(meeting, key=lambda scaler: meeting[scaler]["replica_hours"])
        best = f"{cheapest}, {meeting[cheapest]['replica_hours'] / bound:.2f}"
    return (
        f"| {name} | {shoal['attainment']:.2%} | {shoal['replica_hours'] / bound:.2f} |"
        f" {ahead['replica_hours'] / bound:.2f} ({ahead['attainment']:.1%}) | {best} |"
        f" {'-' if saved is None else f'{saved:.0%}'} | {_aims(figures)} |"
    )


def _aims(figures: Mapping[str, Any]) -> str:
    """Which were met, which missed."""
    saved = figures["saved_to_best_other"]
    missed = []
    if not figures["meets_objective"]:
        missed.append("objective")
    if figures["over_oracle"] > MOST_OVER_BOUND:
        missed.append("bound")
    if saved is not None and saved < LEAST_SAVED:
        missed.append("saving")
    return "missed: " + ", ".join(missed) if missed else "met"
