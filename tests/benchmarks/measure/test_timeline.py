from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.timeline import MAX_BUCKETS, bucket_width, timeline
from tests.benchmarks.measure.builders import make_record

records = st.builds(
    make_record,
    st.floats(0, 9),
    ttft_s=st.floats(0.01, 2),
    gaps=st.lists(st.floats(0.01, 0.5), max_size=5).map(tuple),
)


def end_of(found: list[RequestRecord]) -> float:
    return max(record.end_s or 0.0 for record in found)


@given(st.lists(records, min_size=1, max_size=20))
def test_no_token_and_no_second_is_lost(found: list[RequestRecord]) -> None:
    duration_s = end_of(found)
    line = timeline(found, duration_s)
    tokens = sum(line.output_tokens_per_s) * line.bucket_s
    assert tokens == pytest.approx(sum(record.num_output_tokens for record in found))
    requests = sum(line.requests_per_s) * line.bucket_s
    assert requests == pytest.approx(len(found))
    open_s = sum(line.in_flight) * line.bucket_s
    assert open_s == pytest.approx(sum((r.end_s or 0) - (r.sent_s or 0) for r in found), abs=1e-6)


def test_an_empty_bucket_has_no_latency() -> None:
    line = timeline([make_record(0.0), make_record(4.0, ttft_s=0.3)], 5.0)
    at = {t: p50 for t, p50 in zip(line.t_s, line.ttft_p50_s, strict=True) if p50 is not None}
    assert list(at.values()) == pytest.approx([0.1, 0.3])
    assert None in line.ttft_p50_s


def test_errors_are_where_their_requests_were_meant_to_be_sent() -> None:
    line = timeline([make_record(0.0), make_record(4.0, error="timeout")], 5.0)
    (bucket,) = (t for t, count in zip(line.t_s, line.errors, strict=True) if count)
    assert bucket <= 4.0 < bucket + line.bucket_s


def test_a_request_that_never_came_back_is_open_to_the_end() -> None:
    lost = make_record(0.0, end_s=None, first_s=None, gaps=(), error="cancelled")
    line = timeline([lost], 2.0)
    assert sum(line.in_flight) * line.bucket_s == pytest.approx(2.0)


@pytest.mark.parametrize("duration_s", [0.01, 1.0, 59.0, 3600.0, 1e7])
def test_a_plot_has_few_points(duration_s: float) -> None:
    assert duration_s / bucket_width(duration_s, 10_000) <= MAX_BUCKETS + 1e-6


def test_few_requests_get_few_buckets() -> None:
    assert bucket_width(5.0, 1000) == 0.1
    assert bucket_width(5.0, 39) == 0.25
    assert bucket_width(60.0, 3) == 5.0
