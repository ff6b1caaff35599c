"""Where lines of a chart lie, and what its axes say."""

from __future__ import annotations

import re

import msgspec

from shoal.benchmarks.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Chart, Series, draw
from shoal.benchmarks.report.plots import distributions, timeline
from shoal.benchmarks.report.sections import tiles
from shoal.benchmarks.result import Timeline
from tests.benchmarks.report.samples import make_run


def drawn(**chart: object) -> str:
    found = draw(Chart(title="t", **chart))  # type: ignore[arg-type]
    assert found is not None
    return found


def bottom_labels(chart: str) -> list[str]:
    return re.findall(rf'<text x="[^"]+" y="{HEIGHT - BOTTOM + 17}"[^>]*>([^<]*)<', chart)


def test_a_point_between_two_gaps_is_seen() -> None:
    points = [(0.0, 1.0), (1.0, None), (2.0, 2.0), (3.0, None), (4.0, 1.0), (5.0, 2.0)]
    chart = drawn(series=[Series(name="s", points=points)])
    assert chart.count("<circle") == 2
    assert len(re.findall(r'd="M[^"]+L[^"]+"', chart)) == 1


def test_a_narrow_distribution_is_no_vertical_line() -> None:
    run = make_run()
    narrow = [0.2 + 0.0001 * percent for percent in range(101)]
    run.ttft_s = msgspec.structs.replace(run.ttft_s, quantiles=narrow)
    found = distributions([run])
    assert found is not None
    chart = found.split("<figure>")[1]
    assert bottom_labels(chart) == ["200", "202", "204", "206", "208", "210"]


def test_a_wide_distribution_begins_at_zero() -> None:
    points = [(0.1, 0.0), (1.0, 1.0)]
    chart = drawn(series=[Series(name="s", points=points)])
    assert bottom_labels(chart)[0] == "0.0"


def test_client_and_server_are_shown_on_the_same_axis() -> None:
    """Their last samples are of different times."""
    run = make_run()
    two = [1.0, 2.0]
    run.timeline = Timeline(
        bucket_s=10.0, t_s=[0.0, 10.0], ttft_p50_s=[0.1, None], ttft_p99_s=[0.1, None],
        itl_p50_s=[0.1, None], output_tokens_per_s=two, requests_per_s=two, in_flight=two,
    )  # fmt: skip
    found = timeline(run)
    assert found is not None
    charts = [chart for chart in found.split("<figure>")[1:] if "time (s)" in chart]
    assert len(charts) >= 4
    assert len({tuple(bottom_labels(chart)) for chart in charts}) == 1


def test_nothing_is_drawn_outside_the_axes() -> None:
    chart = drawn(series=[Series(name="s", points=[(0.0, 1.0), (9.0, 2.0)])], x_range=(0.0, 5.0))
    places = re.search(r'data-at="([^"]+)"', chart)
    assert places is not None
    assert [float(place.split(",")[0]) for place in places[1].split()] == [LEFT, WIDTH - RIGHT]


def test_tiles_fill_their_rows() -> None:
    run = make_run()
    page = tiles(run)
    assert page.count('class="tile"') == 9
    assert "--columns: 5" in page
    run.goodput = run.cached_tokens = None
    assert "--columns: 4" in tiles(run)
