"""The section of RESULTS.md, from nothing but the JSON."""

from __future__ import annotations

from shoal.benchmarks.peers.peers_result import Line
from shoal.benchmarks.router.results_section import results_section
from shoal.benchmarks.router.router_result import RouterResult, decode, encode
from shoal.benchmarks.router.standard_set import STANDARD_SET
from shoal.benchmarks.router.tables import COLUMNS, NOTES
from tests.benchmarks.router.router_lines import line, result_of


def section_of(result: RouterResult) -> str:
    return results_section(decode(encode(result), source="test"))


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, the head of the table left out."""
    section = page.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [text for text in section.splitlines() if text.startswith("| ")]
    return [[cell.strip() for cell in text.strip("|").split(" | ")] for text in lines[1:]]


def test_every_case_has_columns_and_a_note() -> None:
    names = [case.name for case in STANDARD_SET]
    assert list(COLUMNS) == names
    assert list(NOTES) == names


def test_a_table_has_a_row_for_each_router_that_was_measured() -> None:
    page = section_of(
        result_of(
            line("direct", "paced", p50_ms=0.1, p99_ms=0.5, failed=0),
            line("shoal", "paced", 0, cpu_us_per_request=100, p50_ms=0.2, p99_ms=1, failed=0),
            line("shoal", "paced", 1, cpu_us_per_request=140, p50_ms=0.2, p99_ms=1, failed=0),
        )
    )
    assert rows(page, "## 300 requests/s, small answers, 16 connections (`paced`)") == [
        ["direct", "–", "0.10 / 0.50", "0", "–", "–", "1"],
        ["shoal", "120", "0.20 / 1.00", "0", "–", "–", "2"],
    ]


def test_only_what_was_measured_is_among_the_figures() -> None:
    page = section_of(result_of(line("shoal", "prefix", hit_rate=0.815, max_share=0.27)))
    assert rows(page, "## Shoal in figures") == [
        ["`prefix_hit_rate`", "0.815"], ["`prefix_max_share`", "0.27"], ["`shoal_errors`", "0"],
    ]  # fmt: skip


def test_a_failure_is_a_row_and_a_disturbed_line_is_counted() -> None:
    disturbed = Line(server="nginx", repeat=0, case="hung", figures={"failed": 0}, foreign_cpu=0.5)
    broken = Line(server="shoal", repeat=1, case="soak", error="BenchFailed: a\n| b")
    page = section_of(result_of(disturbed, broken))
    assert rows(page, "## What went wrong") == [["shoal", "2", "soak", r"BenchFailed: a \| b"]]
    assert "During 1 of 2 measurements" in page


def test_a_quick_run_says_so() -> None:
    assert "A quick run" in section_of(result_of(quick=True))
    assert "A quick run" not in section_of(result_of())
