"""Metric names are vLLM's; the reader of the Prometheus text format agrees with its writer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from shoal.metrics import Sample, parse_prometheus_text, token_buckets


def test_samples_of_a_page() -> None:
    page = """
# HELP http_requests_total The total.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3
no_labels 12.47
vllm:kv_cache_usage_perc{model_name="a b"} 4e-1
weird{path="C:\\\\DIR",text="a \\"}{\\" \\n, b=\\"1\\""} -Inf
empty{} NaN
"""
    *samples, nan = parse_prometheus_text(page)
    assert samples == [
        Sample("http_requests_total", {"method": "post", "code": "200"}, 1027.0),
        Sample("http_requests_total", {"method": "post", "code": "400"}, 3.0),
        Sample("no_labels", {}, 12.47),
        Sample("vllm:kv_cache_usage_perc", {"model_name": "a b"}, 0.4),
        Sample("weird", {"path": "C:\\DIR", "text": 'a "}{" \n, b="1"'}, -math.inf),
    ]
    assert (nan.name, nan.labels) == ("empty", {})
    assert math.isnan(nan.value)


@pytest.mark.parametrize(
    "line", ["name", "name{", 'name{a="b} 1', "name{a=b} 1", "name x", "1name 1", '{a="b"} 1']
)
def test_what_is_no_sample_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"Prometheus sample"):
        list(parse_prometheus_text(line))


@given(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False))
def test_reads_what_prometheus_client_writes(text: str, value: float) -> None:
    registry = CollectorRegistry()
    Gauge("g", "help", ["label"], registry=registry).labels(text).set(value)
    page = generate_latest(registry).decode()
    assert list(parse_prometheus_text(page)) == [Sample("g", {"label": text}, value)]


@pytest.mark.parametrize(
    ("max_model_len", "edges"),
    [(1, [1]), (100, [1, 2, 5, 10, 20, 50, 100]), (499, [1, 2, 5, 10, 20, 50, 100, 200])],
)
def test_token_buckets(max_model_len: int, edges: list[float]) -> None:
    assert list(token_buckets(max_model_len)) == edges
