from __future__ import annotations

import pytest

from shoal.benchmarks.measure.summary import (
    CANCELLED,
    headline,
    intervals,
    request_table,
    summarize,
)
from tests.benchmarks.measure.builders import make_record


def test_rates_count_complete_answers_over_wall_time() -> None:
    figures = summarize([make_record(), make_record(1.0)], 2.0, None)
    assert figures.requests_per_s == 1.0
    assert figures.output_tokens_per_s == 3.0
    assert figures.total_tokens_per_s == 13.0
    assert figures.goodput is None


def test_latencies_count_from_the_intended_time() -> None:
    late = make_record(1.0, ttft_s=0.5, sent_s=1.4)
    figures = summarize([late], 2.0, None)
    assert figures.ttft_s.p50 == pytest.approx(0.5)
    assert figures.e2e_s.p50 == pytest.approx(0.52)
    assert figures.send_delay_s.p50 == pytest.approx(0.4)


def test_a_failed_request_is_counted_and_measured_nowhere() -> None:
    broken = make_record(ttft_s=9.0, error="cut_stream", detail="gone")
    figures = summarize([make_record(), broken], 1.0, {"ttft": 10.0})
    assert (figures.num_requests, figures.num_succeeded) == (2, 1)
    assert figures.errors == {"cut_stream": 1}
    assert figures.error_examples == {"cut_stream": "gone"}
    assert figures.ttft_s.count == 1
    assert figures.output_tokens == 3
    assert figures.goodput is not None
    assert figures.goodput.attainment == 0.5


def test_what_ctrl_c_cut_short_is_held_against_nobody() -> None:
    figures = summarize([make_record(), make_record(error=CANCELLED)], 1.0, {"ttft": 1.0})
    assert (figures.num_requests, figures.errors) == (1, {})
    assert figures.goodput is not None
    assert figures.goodput.attainment == 1.0


def test_goodput_is_what_met_every_objective() -> None:
    records = [make_record(ttft_s=0.1), make_record(ttft_s=0.3), make_record(ttft_s=0.2)]
    goodput = summarize(records, 2.0, {"ttft": 0.25}).goodput
    assert goodput is not None
    assert goodput.attainment == pytest.approx(2 / 3)
    assert goodput.requests_per_s == 1.0


def test_not_said_is_not_zero() -> None:
    assert summarize([make_record()], 1.0, None).cached_tokens is None
    assert summarize([make_record(cached_tokens=0)], 1.0, None).cached_tokens == 0
    assert summarize([make_record(cached_tokens=7)] * 2, 1.0, None).cached_tokens == 14


def test_without_a_count_of_the_server_chunks_are_counted() -> None:
    assert summarize([make_record(output_tokens=None)], 1.0, None).output_tokens == 3


def test_several_tokens_a_chunk_count_in_tpot() -> None:
    record = make_record(gaps=(0.1,), output_tokens=11)
    assert record.tpot_s == pytest.approx(0.01)


def test_no_request_at_all_is_a_result_too() -> None:
    figures = summarize([], 0.0, {"ttft": 1.0})
    assert figures.num_requests == 0
    assert figures.ttft_s.count == 0
    assert headline(figures)["goodput_attainment"] == 0.0


def test_intervals_are_over_repeats() -> None:
    repeats = [summarize([make_record(ttft_s=t)], 1.0, None) for t in (0.1, 0.2, 0.3)]
    found = intervals(repeats)["ttft_p50_s"]
    assert found.mean == pytest.approx(0.2)
    assert found.count == 3
    assert found.low is not None
    assert found.low < 0.1


def test_a_figure_that_one_repeat_lacks_counts_the_others() -> None:
    repeats = [summarize([make_record()], 1.0, None), summarize([], 1.0, None)]
    found = intervals(repeats)
    assert found["ttft_p50_s"].count == 1
    assert found["requests_per_s"].count == 2


def test_the_table_is_in_the_order_of_the_plan() -> None:
    table = request_table([make_record(2.0), make_record(1.0, error="timeout")])
    assert table.intended_s == [1.0, 2.0]
    assert table.error == ["timeout", None]
    assert table.e2e_s[0] is None
