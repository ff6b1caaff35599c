"""`shoal autoscale simulate`: the scaler's decisions, on loads of the past or made up."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.benchmarks.sim.compare import Comparison

MOST_PROCESSES = 8


def simulate(
    load: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A load that comes with Shoal: sine, steps, flash, bursts, clients, or mixed for"
            " several kinds of GPU. May be given several times.",
            show_default="all but mixed, without --trace",
        ),
    ] = None,
    trace: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A trace of a format that `shoal bench` reads. May be given several times.",
            show_default=False,
        ),
    ] = None,
    trace_format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="azure, mooncake, servegen[:SERVICE], burstgpt or table.",
            show_default="seen from the file",
        ),
    ] = "auto",
    duration_s: Annotated[
        float, typer.Option(min=60.0, help="So much of a trace, from its beginning: seconds.")
    ] = 3600.0,
    copies: Annotated[
        int, typer.Option(min=1, help="Each request of a trace so often: a busier service.")
    ] = 1,
    time_scale: Annotated[
        float, typer.Option(min=0.001, help="2 replays a trace twice as fast.")
    ] = 1.0,
    ttft_target_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.001, help="Objective: longest wait for the first token."
        ),
    ] = 2.0,
    tpot_target_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.0001, help="Objective: longest time for each further token."
        ),
    ] = 0.1,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Also write a report with plots."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON in place of the tables.")
    ] = False,
) -> None:
    """Replay loads against Shoal's scaler, HPA, KPA and KEDA, beside the lower bound.

    In virtual time, with the decisions that run in production: a minute or so an hour of load.
    """
    from rich.console import Console

    from shoal.benchmarks.sim.compare import compare
    from shoal.benchmarks.sim.fleet import Slo
    from shoal.benchmarks.sim.loads import SYNTHETIC, of_trace, synthetic
    from shoal.benchmarks.sim.mixed import compare_mixed
    from shoal.benchmarks.sim.mixed_loads import MIXED
    from shoal.benchmarks.sim.mixed_summary import mixed_page, mixed_table
    from shoal.benchmarks.sim.report import render
    from shoal.benchmarks.sim.summary import as_json, terminal_table

    names = load if load is not None else ([] if trace else list(SYNTHETIC))
    if unknown := [name for name in names if name not in SYNTHETIC | MIXED]:
        raise ConfigError(f"no load {unknown[0]!r}; there are: {', '.join(SYNTHETIC | MIXED)}")
    scenarios = [synthetic(name) for name in names if name in SYNTHETIC]
    scenarios += [
        of_trace(
            path, copies=copies, time_scale=time_scale, form=trace_format, duration_s=duration_s
        )
        for path in trace or []
    ]
    if html is not None and scenarios and MIXED.keys() & set(names):
        raise ConfigError("the load mixed has a report of its own: simulate it by itself")
    slo = Slo(ttft_s=ttft_target_s, tpot_s=tpot_target_s)
    console = Console(stderr=json)
    comparisons: list[Comparison] = []
    for scenario in scenarios:
        if not scenario.requests:
            raise ConfigError(f"{scenario.name} has no requests")
        with console.status(scenario.name) as status:
            comparison = compare(
                replace(scenario, slo=slo),
                processes=min(os.cpu_count() or 1, MOST_PROCESSES),
                progress=lambda what, of=scenario.name: status.update(f"{of}: {what}"),  # type: ignore[misc]
            )
        comparisons.append(comparison)
        console.print(terminal_table(comparison))
    mixes = {}
    for mixed in (MIXED[name]() for name in names if name in MIXED):
        with console.status(mixed.name) as status:
            mixes[mixed.name] = compare_mixed(
                replace(mixed, slo=slo),
                progress=lambda what, of=mixed.name: status.update(f"{of}: {what}"),  # type: ignore[misc]
            )
        console.print(mixed_table(mixed, mixes[mixed.name]))
    if html is not None:
        text = render(comparisons) if comparisons else mixed_page(mixes)
        html.write_text(text, encoding="utf-8")
        console.print(f"Report: {html}")
    if json:
        typer.echo(as_json(comparisons, mixes))
