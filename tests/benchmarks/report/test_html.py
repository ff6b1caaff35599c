"""The report as a file: well-formed, complete, safe; and a browser runs its script."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from shoal.benchmarks.measure.summary import Figures, summarize
from shoal.benchmarks.measure.timeline import timeline
from shoal.benchmarks.report.html import render_html
from shoal.benchmarks.result import (
    CompareResult,
    Interval,
    Ratio,
    RunResult,
    Series,
    ServerWatch,
    Sweep,
    SweepStep,
)
from tests.benchmarks.measure.builders import make_record

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def make_run(name: str = "model", *, num_requests: int = 40, failed: int = 0) -> RunResult:
    records = [
        make_record(0.1 * i, ttft_s=0.1 + 0.002 * i, gaps=(0.01, 0.02)) for i in range(num_requests)
    ]
    records += [make_record(1.0, error="http_500", detail=HOSTILE) for _ in range(failed)]
    figures = summarize(records, 6.0, {"ttft": 0.15})
    fields = {name: getattr(figures, name) for name in Figures.__dataclass_fields__}
    gauge = Series(t_s=[0.0, 1.0, 2.0], values=[1.0, 3.0, 0.0])
    return RunResult(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        environment={"cpu": "some", "command": "shoal bench"},
        config={"url": "http://127.0.0.1:1", "load": {"concurrency": 8}},
        duration_s=6.0,
        timeline=timeline(records, 6.0) if records else None,
        server=ServerWatch(
            gauges={"vllm:num_requests_running": gauge, "vllm:num_requests_waiting": gauge},
            counters={"vllm:generation_tokens_total": 120.0},
            cpu_cores=gauge,
            rss_bytes=Series(t_s=[0.0, 1.0], values=[2.0**30, 2.1 * 2**30]),
        ),
        intervals={"ttft_p50_s": Interval(mean=0.14, low=0.13, high=0.15, count=3)},
        **fields,
    )


def make_sweep() -> RunResult:
    steps = [
        SweepStep(rate=rate, attainment=met, passed=met >= 0.95, requests_per_s=rate,
                  output_tokens_per_s=10 * rate, ttft_p50_s=0.1 * rate, ttft_p99_s=0.2 * rate,
                  num_requests=50)
        for rate, met in ((1.0, 1.0), (4.0, 0.4), (2.0, 0.96))
    ]  # fmt: skip
    run = make_run()
    run.sweep = Sweep(target=0.95, best_rate=2.0, steps=steps)
    return run


def make_comparison() -> CompareResult:
    ratio = Ratio(median=1.2, low=1.1, high=1.3, geometric_mean=1.2, pairs=[1.1, 1.2, 1.3])
    unsure = Ratio(median=1.0, low=None, high=None, geometric_mean=1.01, pairs=[1.01])
    return CompareResult(
        created="2026-01-01T00:00:00+00:00",
        a=make_run("A one"),
        b=make_run("B two"),
        ratios={"output_tokens_per_s": ratio, "ttft_p50_s": unsure},
    )


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def drawings(page: str) -> list[ElementTree.Element]:
    """Every SVG, parsed as XML."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


class Balanced(HTMLParser):
    """Raises when tags do not close in order."""

    VOID = ("meta", "br", "line", "path", "circle", "rect", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PAGES = {
    "run": lambda: [make_run()],
    "failed": lambda: [make_run(failed=3)],
    "empty": lambda: [make_run(num_requests=0, failed=2)],
    "sweep": lambda: [make_sweep()],
    "several": lambda: [make_run("a"), make_run("b"), make_run("c")],
    "comparison": lambda: [make_comparison()],
}


@pytest.mark.parametrize("kind", PAGES)
def test_every_kind_of_report_is_well_formed(kind: str) -> None:
    page = render_html(PAGES[kind]())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "nan" not in page.lower().replace("nanosecond", "")
    assert "None" not in page
    assert all(svg.get("viewBox") for svg in drawings(page))


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_is_fetched(kind: str) -> None:
    page = render_html(PAGES[kind]())
    assert "default-src 'none'" in unescape(page)
    assert not re.search(r"<[^>]*(src|href)=|url\(|@import", page)
    assert len(page) < 300_000


def test_a_run_shows_what_it_has() -> None:
    page = render_html([make_run(failed=1)])
    assert headings(page) == [
        "Latencies", "Percentiles", "Failed requests", "Over time, the first of 3 repeats",
        "How it was measured",
    ]  # fmt: skip
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == 4 + 4 + 3  # distributions, the client's view, the server's
    assert "KV cache in use" not in captions  # this server did not say
    assert "0.13 – 0.15" in page or "130 – 150" in page  # the interval of TTFT p50


def test_every_line_has_its_points() -> None:
    page = render_html([make_run("a"), make_run("b")])
    svg = drawings(page)[0]
    series = [g for g in svg.iter("g") if "series" in g.get("class", "")]
    assert [g.get("data-name") for g in series] == ["a", "b"]
    for group in series:
        assert len(group.get("data-at", "").split()) == 101
        assert len(group.get("data-text", "").split("|")) == 101


def test_several_runs_stand_beside_the_first() -> None:
    slower = make_run("slower")
    slower.output_tokens_per_s = make_run().output_tokens_per_s / 2
    page = render_html([make_run("first"), slower])
    assert headings(page)[0] == "Side by side"
    assert "0.500×" in page


def test_a_sweep_shows_its_curve_and_its_best() -> None:
    page = render_html([make_sweep()])
    assert "best: 2.00 req/s" in page
    assert "target: 95%" in page
    rates = re.findall(r"<td>([\d.]+) req/s</td><td>[\d.]+%</td>", page)
    assert rates == ["1.00", "2.00", "4.00"]


def test_a_comparison_tells_sure_from_unsure() -> None:
    page = render_html([make_comparison()])
    whiskers = next(svg for svg in drawings(page) if svg.get("class") == "whiskers")
    classes = [g.get("class") for g in whiskers.iter("g")]
    assert classes == ["series good", "series soft"]


def test_names_and_errors_are_text() -> None:
    run = make_run(HOSTILE, failed=2)
    run.warnings = [HOSTILE]
    run.config = {HOSTILE: HOSTILE}
    page = render_html([run, make_run(HOSTILE)])
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_a_result_survives_the_file() -> None:
    run = make_run()
    again = msgspec.json.decode(msgspec.json.encode(run), type=RunResult)
    assert render_html([again]) == render_html([run])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_it_and_runs_its_script(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(render_html([make_comparison(), make_sweep()]), encoding="utf-8")
    browser = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu",
        "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    dumped = subprocess.run(
        [*browser, "--dump-dom", report.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    (ready,) = re.findall(r'<html[^>]*data-ready="(\d+)"', dumped.stdout)
    assert int(ready) == dumped.stdout.count('class="chart"') > 10
