"""A report as one HTML file: no network, no library, safe against what servers and files say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shoal import __version__
from shoal.benchmarks.result import CompareResult, Result, RunResult

from . import numbers, plots, sections, whiskers
from .figures import SHAKY_NOTE
from .importers import runs_of
from .markup import Markup, element, join, raw
from .style import CSS, SCRIPT

# Nothing may be fetched, sent or framed; only our own inline style and script run.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render_html(results: Sequence[Result]) -> str:
    """One run, several side by side, a sweep, or a comparison, whatever `results` holds."""
    runs = runs_of(results)
    (title, subtitle) = _title(results, runs)
    body = [element("h1", title), element("p", subtitle, class_="sub")]
    compared = [result for result in results if isinstance(result, CompareResult)]
    for result in compared:
        body += _present(sections.warnings(result.warnings))
        body.append(element("h2", f"{result.a.name} beside {result.b.name}"))
        body += _present(whiskers.draw(result.ratios), sections.ratios_table(result))
    if len(runs) == 1:
        body += _present(sections.tiles(runs[0]), sections.warnings(runs[0].warnings))
    elif not compared:
        body += [element("h2", "Side by side"), sections.side_by_side_table(runs)]
    for run in runs:
        if run.sweep is not None:
            body += [element("h2", _heading("The highest rate that holds", run, runs))]
            body += _present(plots.sweep(run.sweep), sections.sweep_table(run.sweep))
    body += _section("Latencies", plots.distributions(runs))
    for run in runs:
        body += _run(run, runs)
    body.append(_footer(results))
    return page(title, join(*body))


def _run(run: RunResult, runs: Sequence[RunResult]) -> list[Markup]:
    """Everything of one run that does not stand beside another's."""
    parts = _section(_heading("Percentiles", run, runs), sections.latencies(run))
    if len(runs) > 1:
        parts += _present(sections.warnings(run.warnings))
    parts += _section(_heading("Failed requests", run, runs), sections.errors(run))
    num_repeats = max((interval.count for interval in run.intervals.values()), default=1)
    which = f", the first of {num_repeats} repeats" if num_repeats > 1 else ""
    parts += _section(_heading(f"Over time{which}", run, runs), plots.timeline(run))
    parts.append(element("h2", _heading("How it was measured", run, runs)))
    if run.server is not None and run.server.problem:
        parts.append(element("p", f"No server metrics: {run.server.problem}", class_="sub"))
    parts += _present(
        sections.counters(run),
        sections.facts("Configuration", _config(run)),
        sections.facts("Environment", run.environment),
    )
    return parts


def _config(run: RunResult) -> dict[str, Any]:
    version = None if run.server is None else run.server.version
    return run.config if version is None else {**run.config, "server_version": version}


def _title(results: Sequence[Result], runs: Sequence[RunResult]) -> tuple[str, str]:
    if len(results) == 1 and isinstance(results[0], CompareResult):
        created = results[0].created
        return f"{runs[0].name} and {runs[1].name} in turns", created
    if len(runs) > 1:
        return f"{len(runs)} load tests", ", ".join(run.name for run in runs)
    run = runs[0]
    said = [
        run.created,
        numbers.duration(run.duration_s),
        f"{numbers.count(run.num_requests)} requests",
        str(run.config.get("url", "")),
        "interrupted" if run.interrupted else "",
    ]
    return f"Load test of {run.name}", " · ".join(part for part in said if part)


def _heading(text: str, run: RunResult, runs: Sequence[RunResult]) -> str:
    return text if len(runs) == 1 else f"{text}: {run.name}"


def _section(title: str, content: Markup | None) -> list[Markup]:
    return [] if content is None else [element("h2", title), content]


def _present(*parts: Markup | None) -> list[Markup]:
    return [part for part in parts if part is not None]


def _footer(results: Sequence[Result]) -> Markup:
    note = f"Latencies count from the moment a request was meant to be sent. {SHAKY_NOTE}"
    return element("footer", note, element("br"), f"Made by shoal bench {__version__}.")


def page(title: str, body: Markup) -> str:
    """A document with our style, script and security policy."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", raw(CSS)),
    )
    content = element(
        "body",
        element("main", body),
        element("div", id="tip"),
        element("script", raw(SCRIPT)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, content, lang="en")
