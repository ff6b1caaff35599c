"""Tables: the right numbers, honest about how few samples are behind them, and safe to print."""

from __future__ import annotations

import re

import pytest
from rich.console import Console, RenderableType

from shoal.benchmarks.report.html import render_html
from shoal.benchmarks.report.table import (
    compare_table,
    report_table,
    run_table,
    several_table,
    sweep_table,
)
from shoal.benchmarks.result import Ratio, Sweep, SweepStep
from tests.benchmarks.report.samples import (
    make_compare,
    make_empty_run,
    make_run,
    make_sweep_run,
)


def text_of(renderable: RenderableType, *, width: int = 140) -> str:
    console = Console(width=width, force_terminal=True)
    with console.capture() as capture:
        console.print(renderable)
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())  # rich's own colours


def row(text: str, start: str) -> str:
    (found,) = (line for line in text.splitlines() if line.strip().startswith(start))
    return found


def test_a_run_shows_rates_latencies_intervals_errors_and_warnings() -> None:
    run = make_run()
    text = text_of(run_table(run))
    assert "1,840 tok/s" in row(text, "Output")
    assert "of 5.00 req/s offered" in row(text, "Requests")
    assert "96.2% met TTFT ≤ 500 ms, TPOT ≤ 50.0 ms" in row(text, "Goodput")
    ttft = run.ttft_s
    assert ttft.p50 is not None
    assert ttft.p99 is not None
    assert row(text, "TTFT ms").split() == [
        "TTFT", "ms", "600", *(f"{v * 1000:.0f}" for v in (
            ttft.mean, ttft.p50, ttft.p90, ttft.p95, ttft.p99, ttft.max) if v is not None)
    ]  # fmt: skip
    assert "[171 – 189]" in text
    assert "4 of 600 requests failed" in text
    assert '1 http_500  {"error": "<b>boom</b>"}' in text
    assert "warning: The load generator was late" in text
    assert "~" not in text


def test_what_is_not_there_is_not_doubted() -> None:
    run = make_empty_run()
    step = SweepStep(rate=1.0, attainment=0.0, passed=False, requests_per_s=0.0,
                     output_tokens_per_s=0.0, num_requests=5)  # fmt: skip
    run.sweep = Sweep(target=0.9, best_rate=None, steps=[step])
    for shown in (text_of(report_table([run])), text_of(several_table([run, make_run()]))):
        assert "~–" not in shown
    assert "~–" not in render_html([run])
    assert "~TTFT" not in render_html([run])


def test_few_samples_are_marked_with_a_footnote() -> None:
    text = text_of(run_table(make_run(count=12)))
    cells = row(text, "TTFT ms").split()
    assert [cell.startswith("~") for cell in cells[2:]] == [
        False, False, False, False, True, True, False  # count, mean, p50, p90, p95, p99, max
    ]  # fmt: skip
    assert "~" not in row(text, "ITL ms")
    assert "p99 needs 100 samples" in text


def test_without_an_answer_there_are_no_latencies() -> None:
    text = text_of(run_table(make_empty_run()))
    assert "No answer was complete" in text
    assert "TTFT" not in text
    assert "50 of 50 requests failed" in text


def test_hostile_text_is_shown_as_it_is_and_steers_nothing() -> None:
    run = make_run("[bold]name[/bold] \x1b[31mred\x1b]0;title\x07")
    run.error_examples["timeout"] = "[link=https://example.org]x[/link]\nsecond line"
    run.errors["[red]kind"] = 1
    run.warnings = ["[blink]warning"]
    assert run.goodput is not None
    run.goodput.slo = {"[bold]ttft": 1.0}
    text = text_of(run_table(run))
    assert "[bold]name[/bold]" in text
    assert "[link=https://example.org]x[/link] second line" in text
    assert "[red]kind" in text
    assert "[blink]warning" in text
    assert "[BOLD]TTFT" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_an_interrupted_run_says_so() -> None:
    run = make_run()
    run.interrupted = True
    assert "interrupted" in text_of(run_table(run))


def test_a_sweep_is_sorted_by_rate_and_names_the_best() -> None:
    sweep = make_sweep_run().sweep
    assert sweep is not None
    text = text_of(sweep_table(sweep))
    assert "Highest rate that held: 11.0 req/s" in text
    rates = [float(r) for r in re.findall(r"^ *(\d+\.\d+) .*(?:held|failed)", text, re.MULTILINE)]
    assert rates == [4.0, 8.0, 10.0, 11.0, 11.5, 12.0, 16.0]
    assert text.count("~") == 3  # two p99 of the step of 60 requests, and the footnote
    assert "held" in row(text, "11.0")
    assert "failed" in row(text, "11.5")


def test_a_sweep_that_found_nothing() -> None:
    sweep = make_sweep_run(best_rate=None).sweep
    assert sweep is not None
    assert "No rate held" in text_of(sweep_table(sweep))


def test_a_comparison_says_who_is_ahead_only_where_the_interval_does() -> None:
    text = text_of(compare_table(make_compare()))
    assert row(text, "Requests  ").rstrip().endswith("neither")
    assert row(text, "Output").rstrip().endswith(" A")
    assert "1.25×" in row(text, "Output")
    assert row(text, "TTFT p50").rstrip().endswith(" A")  # lower is better
    assert row(text, "TTFT p99").rstrip().endswith(" B")
    assert "6 pairs" in text


def test_a_common_terminal_holds_the_tables() -> None:
    sweep = make_sweep_run()
    assert sweep.sweep is not None
    repeated = make_run()
    repeated.intervals = {}
    for shown in (sweep_table(sweep.sweep), compare_table(make_compare()), run_table(repeated)):
        wide, narrow = text_of(shown), text_of(shown, width=80)
        assert "…" not in narrow
        lines = [line.split() for line in narrow.splitlines()]
        rows = [line.split() for line in wide.splitlines() if re.search(r"\d\.\d", line)]
        assert all(row in lines for row in rows if row[0] != "warning:")


def test_one_pair_tells_nothing() -> None:
    compare = make_compare()
    compare.ratios = {
        "output_tokens_per_s": Ratio(
            median=1.3, low=None, high=None, geometric_mean=1.3, pairs=[1.3]
        )
    }
    text = text_of(compare_table(compare))
    assert "cannot tell" in row(text, "Output")


def test_several_runs_have_ratios_to_the_first() -> None:
    runs = [make_run(), make_run("slow", slower=2.0), make_empty_run()]
    text = text_of(several_table(runs))
    assert "920 tok/s  0.500×" in row(text, "Output")
    assert "2.00×" in row(text, "TTFT p50")
    assert "50 of 50" in row(text, "Requests failed")


@pytest.mark.parametrize("width", [40, 80])
def test_narrow_terminals_get_something(width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(report_table([make_sweep_run()]))
    assert max(map(len, capture.get().splitlines())) <= width


def test_the_report_suits_the_results() -> None:
    assert "Highest rate that held" in text_of(report_table([make_sweep_run()]))
    assert "A / B" in text_of(report_table([make_compare()]))
    assert "samples" in text_of(report_table([make_run()]))
    mixed = text_of(report_table([make_compare(), make_run("third")]))
    assert all(name in mixed for name in ("shoal", "other server", "third"))
