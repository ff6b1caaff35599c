"""`shoal bench`: load-test any OpenAI-compatible server, compare two, report on results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.errors import ShoalError

from . import bench_options as option

if TYPE_CHECKING:
    from shoal.benchmarks.result import Result

app = typer.Typer(
    no_args_is_help=True,
    help="Measure OpenAI-compatible servers: one under load, two side by side, results as reports.",
)

INTERRUPTED = 130
WIDTH_OF_FILES = 110
"""Columns of tables that go to a file or a pipe."""


@app.command()
def run(
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="Address of the server.", rich_help_panel=option.TARGET),
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model to ask for.",
            show_default="the first that the server lists",
            rich_help_panel=option.TARGET,
        ),
    ] = None,
    endpoint: option.EndpointOption = None,
    api_key: option.ApiKey = None,
    extra_body: option.ExtraBody = None,
    ignore_eos: option.IgnoreEos = True,
    timeout_s: option.TimeoutS = 600.0,
    workload: option.WorkloadName = "synthetic",
    input_len: option.InputLen = None,
    output_len: option.OutputLen = None,
    prefix_len: option.PrefixLen = None,
    num_prefixes: option.NumPrefixes = None,
    num_turns: option.NumTurns = None,
    pause_s: option.PauseS = None,
    num_examples: option.NumExamples = None,
    trace: option.Trace = None,
    trace_format: option.TraceFormat = None,
    time_scale: option.TimeScale = None,
    prompts: option.Prompts = None,
    token_ids: option.TokenIds = False,
    seed: option.Seed = 0,
    rate: option.Rate = None,
    concurrency: option.Concurrency = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Search for the highest rate whose goodput stays above --target (needs --slo;"
            " --rate is where it begins).",
            rich_help_panel=option.LOAD,
        ),
    ] = False,
    target: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of a sweep: least share of requests within the objectives.",
            rich_help_panel=option.LOAD,
        ),
    ] = 0.95,
    resolution: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of a sweep: how close the answer must be.",
            rich_help_panel=option.LOAD,
        ),
    ] = 0.1,
    arrivals: option.Arrivals = option.Process.poisson,
    burstiness: option.Burstiness = 1.0,
    shape: option.Shape = "flat",
    duration: option.Duration = None,
    num_requests: option.NumRequests = None,
    slo: option.Slo = None,
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Measure so often; figures get 95 % intervals.",
            rich_help_panel=option.MEASURE,
        ),
    ] = 1,
    pid: Annotated[
        int | None,
        typer.Option(
            metavar="PID",
            help="The server's process on this machine: its CPU and memory are watched.",
            show_default=False,
            rich_help_panel=option.MEASURE,
        ),
    ] = None,
    processes: option.Processes = None,
    warmup: option.Warmup = 1,
    save_requests: option.SaveRequests = False,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How reports call this run.",
            show_default="the model's name",
            rich_help_panel=option.OUTPUT,
        ),
    ] = None,
    json: option.Json = None,
    html: option.Html = None,
) -> None:
    """Put load on a server and measure what its users would feel.

    Latencies count from the moment a request was meant to be sent. Ctrl-C ends the run and writes
    what was measured so far.
    """
    options = dict(locals())  # the parameters above, by name
    from shoal.benchmarks.run import run_load
    from shoal.benchmarks.sweep import SweepPlan, run_sweep

    from .bench_progress import RunView, measured
    from .bench_test import load_test

    _check_outputs(json, html)
    test = load_test(url, options, model=model)
    with RunView(test) as view:
        if sweep:
            plan = SweepPlan(start_rate=rate or 1.0, target=target, resolution=resolution)
            result: Result = measured(run_sweep(test, plan, view.on_step))
        else:
            result = measured(run_load(test, view.on_repeat))
    _finish(result, json, html)


@app.command()
def compare(
    a: Annotated[
        str,
        typer.Option(
            "--a",
            metavar="URL",
            help="One server.",
            show_default=False,
            rich_help_panel=option.TARGET,
        ),
    ],
    b: Annotated[
        str,
        typer.Option(
            "--b",
            metavar="URL",
            help="The other.",
            show_default=False,
            rich_help_panel=option.TARGET,
        ),
    ],
    model_a: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of A.",
            show_default="the first it lists",
            rich_help_panel=option.TARGET,
        ),
    ] = None,
    model_b: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of B.",
            show_default="the first it lists",
            rich_help_panel=option.TARGET,
        ),
    ] = None,
    endpoint: option.EndpointOption = None,
    api_key: option.ApiKey = None,
    extra_body: option.ExtraBody = None,
    ignore_eos: option.IgnoreEos = True,
    timeout_s: option.TimeoutS = 600.0,
    workload: option.WorkloadName = "synthetic",
    input_len: option.InputLen = None,
    output_len: option.OutputLen = None,
    prefix_len: option.PrefixLen = None,
    num_prefixes: option.NumPrefixes = None,
    num_turns: option.NumTurns = None,
    pause_s: option.PauseS = None,
    num_examples: option.NumExamples = None,
    trace: option.Trace = None,
    trace_format: option.TraceFormat = None,
    time_scale: option.TimeScale = None,
    prompts: option.Prompts = None,
    token_ids: option.TokenIds = False,
    seed: option.Seed = 0,
    rate: option.Rate = None,
    concurrency: option.Concurrency = None,
    arrivals: option.Arrivals = option.Process.poisson,
    burstiness: option.Burstiness = 1.0,
    shape: option.Shape = "flat",
    duration: option.Duration = None,
    num_requests: option.NumRequests = None,
    slo: option.Slo = None,
    pairs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Pairs of runs, A and B in turns.", rich_help_panel=option.MEASURE
        ),
    ] = 5,
    processes: option.Processes = None,
    warmup: option.Warmup = 1,
    save_requests: option.SaveRequests = False,
    json: option.Json = None,
    html: option.Html = None,
) -> None:
    """Measure two servers in turns and report the ratio A / B with its 95 % interval.

    Both sides of a pair get the same arrivals and prompts, one right after the other, so what
    the machine does meanwhile cancels out.
    """
    options = dict(locals())  # the parameters above, by name
    from shoal.benchmarks.compare import run_compare

    from .bench_progress import RunView, measured
    from .bench_test import load_test

    _check_outputs(json, html)
    test_a = load_test(a, options, model=model_a)
    test_b = load_test(b, options, model=model_b)
    with RunView(test_a) as view:
        result = measured(run_compare(test_a, test_b, num_pairs=pairs, on_progress=view.on_pair))
    _finish(result, json, html)


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Results of `shoal bench`, or of `vllm bench serve`.",
            show_default=False,
        ),
    ],
    html: option.Html = None,
) -> None:
    """Show results side by side, and write a report with plots."""
    from shoal.benchmarks.report.importers import load_results

    _check_outputs(html)
    loaded = load_results(results)
    _print(loaded)
    if html is not None:
        _write_html(loaded, html)


def _finish(result: Result, json: Path | None, html: Path | None) -> None:
    """Write, print, and end with the exit status that fits."""
    from shoal.benchmarks.result import CompareResult, write

    if json is not None:
        write(result, json)
    if html is not None:
        _write_html([result], html)
    _print([result])
    runs = (result.a, result.b) if isinstance(result, CompareResult) else (result,)
    for one in runs:
        if one.problem is not None:
            raise ShoalError(f"the run ended early: {one.problem}")
        if one.num_requests == 0 and not result.interrupted:
            raise ShoalError("no request came due: give a longer --duration or a higher --rate")
        if one.num_succeeded == 0 and not result.interrupted:
            kind, count = next(iter(one.errors.items()))
            example = one.error_examples.get(kind, "")
            raise ShoalError(
                f"none of {one.num_requests} requests succeeded ({kind}: {count}) {example}".strip()
            )
    if result.interrupted:
        typer.secho("Interrupted: figures of what was measured until then.", err=True, fg="yellow")
        raise typer.Exit(INTERRUPTED)


def _check_outputs(*paths: Path | None) -> None:
    """Find out before a long run, not after it. Raises ShoalError."""
    given = [path for path in paths if path is not None]
    for path in given:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise ShoalError(f"cannot write {path}: there is no folder {folder}")
        if path.is_dir():
            raise ShoalError(f"cannot write {path}: it is a folder")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise ShoalError(f"cannot write {path}: permission denied")
    if len({path.absolute() for path in given}) < len(given):
        raise ShoalError(f"--json and --html name the same file, {given[0]}")


def _print(results: list[Result]) -> None:
    from rich.console import Console

    from shoal.benchmarks.report.table import report_table

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    console.print(report_table(results))


def _write_html(results: list[Result], path: Path) -> None:
    from shoal.benchmarks.report.html import render_html

    path.write_text(render_html(results), encoding="utf-8")
    typer.echo(f"Report: {path}", err=True)
