"""Its section of RESULTS.md, made from `results/router.json` and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.benchmarks.peers.foreign_cpu import DISTURBED_SHARE
from shoal.benchmarks.peers.results_page import NOTHING, is_disturbed, one_line, table

from .router_result import RouterResult
from .tables import COLUMNS, NOTES


def results_section(result: RouterResult) -> str:
    """The whole section, Markdown."""
    sections = (
        _head(result),
        _verdict(result),
        *(_case(result, case) for case in result.cases),
        _contestants(result),
        _troubles(result),
    )
    return "\n".join(line for section in sections for line in section)


def _head(result: RouterResult) -> Iterator[str]:
    machine = result.environment
    yield "# Shoal's router beside other routers"
    yield ""
    yield "Made by `make bench-router` from [results/router.json](results/router.json): do not"
    yield "edit. Workers without a model, one router at a time in front of them, in turns; every"
    yield "measurement starts router and workers afresh. Figures are medians over repeats. Load"
    yield "generator, workers and router share the machine."
    yield ""
    if result.quick:
        yield "**A quick run, smaller and shorter: for trying out, not for quoting.**"
        yield ""
    if result.interrupted:
        yield "**Interrupted: what follows is what had been measured by then.**"
        yield ""
    yield f"- Date: {result.created}"
    yield (
        f"- Machine: {machine.get('cpu')}, {machine.get('cores')} cores,"
        f" {machine.get('memory_gib')} GiB; {machine.get('os')}, Python {machine.get('python')}"
    )
    yield f"- Shoal: commit {machine.get('commit') or 'unknown'}"
    yield f"- Command: `{machine.get('command')}`; repeats asked for: {result.repeats}"
    for name, reason in result.left_out.items():
        yield f"- Left out: {name}: {reason}"
    yield ""


def _verdict(result: RouterResult) -> Iterator[str]:
    rows = [
        [f"`{name}`", f"{value:,.4g}"]
        for name, value in result.verdict.items()
        if value is not None
    ]
    yield "## Shoal in figures"
    yield ""
    yield "Ratios and differences are taken within a repeat; their median over repeats. Failures"
    yield "are summed over repeats."
    yield ""
    yield from table(["figure", "value"], rows)


def _case(result: RouterResult, case: str) -> Iterator[str]:
    yield f"## {result.cases[case]} (`{case}`)"
    yield ""
    yield NOTES[case]
    yield ""
    rows = []
    for router in result.contestants:
        figures = result.medians.get(router, {}).get(case)
        if figures is not None:
            cells = [column.cell(figures) for column in COLUMNS[case]]
            rows.append([router, *cells, _counts(result, router, case)])
    titles = [column.title for column in COLUMNS[case]]
    yield from table(["router", *titles, "repeats (disturbed)"], rows)


def _counts(result: RouterResult, router: str, case: str) -> str:
    lines = [
        line
        for line in result.lines
        if (line.server, line.case) == (router, case) and line.error is None
    ]
    disturbed = sum(is_disturbed(line) for line in lines)
    return f"{len(lines)} ({disturbed})" if disturbed else str(len(lines))


def _contestants(result: RouterResult) -> Iterator[str]:
    yield "## How the routers ran"
    yield ""
    rows = [
        [name, who.version or NOTHING, who.settings] for name, who in result.contestants.items()
    ]
    yield from table(["router", "version", "settings"], rows)


def _troubles(result: RouterResult) -> Iterator[str]:
    disturbed = sum(is_disturbed(line) for line in result.lines)
    failed = [line for line in result.lines if line.error is not None]
    yield "## What went wrong"
    yield ""
    yield (
        f"During {disturbed} of {len(result.lines)} measurements other processes took more than"
        f" {DISTURBED_SHARE:.0%} of the machine; they count in the medians."
    )
    yield ""
    rows = [
        [line.server, str(line.repeat + 1), line.case, one_line(line.error or "")]
        for line in failed
    ]
    yield from table(["router", "repeat", "case", "why it failed"], rows)
