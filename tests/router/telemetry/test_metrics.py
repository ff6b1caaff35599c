from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shoal.metrics import parse_prometheus_text
from shoal.router.messages import EndpointRecord, Report
from shoal.router.telemetry.exposition import render
from shoal.router.telemetry.families import FAMILIES, MAX_MODELS, MAX_TENANTS, MAX_VALUES
from shoal.router.telemetry.metrics import RouterMetrics
from shoal.router.telemetry.snapshot import (
    Snapshot,
    endpoint_statuses,
    from_plain,
    merge,
    to_plain,
)
from shoal.router.telemetry.usage import Usage


def values(snapshot: Snapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples as a scraper that is not ours reads them."""
    return {
        (sample.name.removeprefix("shoal_router_"), tuple(sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(render(snapshot))
        for sample in family.samples
    }


def value(snapshot: Snapshot, name: str, **labels: str) -> float | None:
    return values(snapshot).get((name, tuple(sorted(labels.items()))))


def make_metrics() -> RouterMetrics:
    """One that has a value in every family of a data-plane process."""
    metrics = RouterMetrics()
    metrics.know_models(["llama"])
    model = metrics.model("llama")
    model.finished(200, 1.5, 0.03, 11)
    model.finished(200, 0.2)
    model.finished(429, 0.001)
    model.used("sales", Usage(100, 60, 7), 0.25)
    model.routed(128, 64)
    metrics.model("no such model").finished(404, 0.001)
    endpoint = metrics.endpoint("http://w1")
    endpoint.in_flight += 3
    endpoint.breaker = "open"
    endpoint.decided("cost")
    endpoint.connected(ok=True)
    endpoint.connected(ok=False)
    metrics.retries.add("connect")
    metrics.failovers.add("continued")
    metrics.hedges.add("first")
    metrics.shed.add("queue_full", 2)
    metrics.queued.set("interactive", 4)
    metrics.waited("interactive", 0.7)
    metrics.held.set("mixtral", 5)
    metrics.model("llama").arrivals += 7
    metrics.model("llama").began(0.02)
    metrics.model_queued.set("llama", 3)
    metrics.connections_open = 6
    metrics.connections = 60
    metrics.watch_log("access", lambda: 8)
    metrics.watch_spans(lambda: 9)
    return metrics


def test_what_was_counted_is_what_is_scraped() -> None:
    snapshot = make_metrics().snapshot()
    found = {
        (name, *labels.items()): value(snapshot, name, **labels)
        for name, labels in (
            ("requests_total", {"model": "llama", "code": "200"}),
            ("requests_total", {"model": "llama", "code": "429"}),
            ("requests_total", {"model": "other", "code": "404"}),
            ("tokens_total", {"model": "llama", "tenant": "sales", "kind": "prompt"}),
            ("tokens_total", {"model": "llama", "tenant": "sales", "kind": "cached"}),
            ("tokens_total", {"model": "llama", "tenant": "sales", "kind": "completion"}),
            ("cost_total", {"model": "llama", "tenant": "sales"}),
            ("prefix_query_tokens_total", {"model": "llama"}),
            ("prefix_hit_estimate_tokens_total", {"model": "llama"}),
            ("in_flight_requests", {"endpoint": "http://w1"}),
            ("breaker_state", {"endpoint": "http://w1", "state": "open"}),
            ("decisions_total", {"endpoint": "http://w1", "policy": "cost"}),
            ("upstream_connects_total", {"endpoint": "http://w1", "outcome": "ok"}),
            ("upstream_connects_total", {"endpoint": "http://w1", "outcome": "failed"}),
            ("retries_total", {"reason": "connect"}),
            ("failovers_total", {"outcome": "continued"}),
            ("hedges_total", {"outcome": "first"}),
            ("shed_total", {"reason": "queue_full"}),
            ("queued_requests", {"band": "interactive"}),
            ("held_requests", {"model": "mixtral"}),
            ("arrivals_total", {"model": "llama"}),
            ("model_queued_requests", {"model": "llama"}),
            ("connections_open", {}),
            ("connections_total", {}),
            ("log_lines_dropped_total", {"log": "access"}),
            ("spans_dropped_total", {}),
        )
    }
    assert list(found.values()) == [
        2, 1, 1, 100, 60, 7, 0.25, 128, 64, 3, 1, 1, 1, 1, 1, 1, 1, 2, 4, 5, 7, 3, 6, 60, 8, 9,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "labels", "total", "count", "edge", "up_to_edge"),
    [
        ("request_duration_seconds", {"model": "llama"}, 1.701, 3, "0.25", 2),
        ("time_to_first_token_seconds", {"model": "llama"}, 0.03, 1, "0.04", 1),
        ("chunk_gap_seconds", {"model": "llama"}, 0.147, 1, "0.1", 0),
        ("queue_wait_seconds", {"band": "interactive"}, 0.7, 1, "1.0", 1),
        ("stream_time_to_first_token_seconds", {"model": "llama"}, 0.02, 1, "0.05", 1),
    ],
)
def test_histograms(
    name: str, labels: dict[str, str], total: float, count: int, edge: str, up_to_edge: int
) -> None:
    snapshot = make_metrics().snapshot()
    assert value(snapshot, f"{name}_sum", **labels) == pytest.approx(total)
    assert value(snapshot, f"{name}_count", **labels) == count
    assert value(snapshot, f"{name}_bucket", le="+Inf", **labels) == count
    assert value(snapshot, f"{name}_bucket", le=edge, **labels) == up_to_edge


def test_a_value_at_an_edge_is_in_its_bucket() -> None:
    metrics = RouterMetrics()
    metrics.model("x").finished(200, 0.25)
    labels = {"model": "other"}
    snapshot = metrics.snapshot()
    assert value(snapshot, "request_duration_seconds_bucket", le="0.25", **labels) == 1
    assert value(snapshot, "request_duration_seconds_bucket", le="0.1", **labels) == 0


def test_the_text_is_valid() -> None:
    snapshot = merge([make_metrics().snapshot(), endpoint_statuses([record("w", "ready")])])
    text = render(snapshot)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for family in FAMILIES.values():
        parsed = families[family.name.removesuffix("_total")]
        assert parsed.type == family.kind
        assert parsed.documentation == family.help
        assert parsed.samples, family.name
        assert family.name.endswith("_total") == (family.kind == "counter")
    assert text.endswith("\n")
    assert {s.name: s.value for s in parse_prometheus_text(text)}.keys() == {
        sample.name for family in families.values() for sample in family.samples
    }
    buckets = [
        [s.value for s in samples]
        for family in families.values()
        if family.type == "histogram"
        for _, samples in itertools.groupby(
            (s for s in family.samples if s.name.endswith("_bucket")),
            key=lambda s: {k: v for k, v in s.labels.items() if k != "le"},
        )
    ]
    assert buckets
    assert all(counts == sorted(counts) for counts in buckets)


def test_labels_are_escaped() -> None:
    name = 'a"b\\n\\\nc{}'
    metrics = RouterMetrics()
    metrics.endpoint(name).in_flight = 2
    assert value(metrics.snapshot(), "in_flight_requests", endpoint=name) == 2


def test_reports_of_processes_add_up() -> None:
    reports = [make_metrics().snapshot() for _ in range(3)]
    reports[2]["shoal_router_in_flight_requests"]["http://w2",] = 7
    sent = [
        msgspec.msgpack.decode(
            msgspec.msgpack.encode(Report(number=1, body=to_plain(report))), type=Report
        ).body
        for report in reports
    ]
    total = merge(map(from_plain, sent))
    one = values(reports[0])
    for key, number in values(total).items():
        if ("endpoint", "http://w2") in key[1]:
            assert number == 7
        else:
            assert number == pytest.approx(3 * one[key]), key
    assert values(reports[0]) == one, "merging changes none of what it reads"


def test_merging_nothing() -> None:
    assert merge([]) == {}
    assert "# TYPE shoal_router_requests_total counter" in render({})


def test_unknown_models_are_one() -> None:
    metrics = RouterMetrics()
    metrics.know_models(["llama"])
    assert metrics.model("a") is metrics.model("b")
    assert metrics.model("llama") is metrics.model("llama")
    assert metrics.model("llama") is not metrics.model("a")
    metrics.know_models(f"m{number}" for number in range(MAX_MODELS + 10))
    names = {metrics.model(f"m{number}").name for number in range(MAX_MODELS + 10)}
    assert len(names) == MAX_MODELS  # "llama" has one place, "other" is beyond
    assert "other" in names


def test_tenants_are_bounded() -> None:
    metrics = RouterMetrics()
    model = metrics.model("x")
    for number in range(MAX_TENANTS + 10):
        model.used(f"t{number}", Usage(1, 0, 0))
    tokens = metrics.snapshot()["shoal_router_tokens_total"]
    assert len({tenant for _, tenant, _ in tokens}) == MAX_TENANTS + 1
    assert tokens["other", "other", "prompt"] == 10


def test_values_of_other_labels_are_bounded() -> None:
    metrics = RouterMetrics()
    for number in range(MAX_VALUES + 10):
        metrics.retries.add(f"r{number}")
    retries = metrics.snapshot()["shoal_router_retries_total"]
    assert len(retries) == MAX_VALUES + 1
    assert retries["other",] == 10


def test_gauges_are_bounded_and_zero_makes_room() -> None:
    metrics = RouterMetrics()
    for number in range(MAX_MODELS + 1):
        metrics.held.set(f"m{number}", 1)
    held = metrics.snapshot()["shoal_router_held_requests"]
    assert len(held) == MAX_MODELS
    metrics.held.set("m3", 0)
    metrics.held.set("late", 2)
    held = metrics.snapshot()["shoal_router_held_requests"]
    assert len(held) == MAX_MODELS
    assert held["late",] == 2
    assert ("m3",) not in held


def test_a_gauge_that_is_replaced_keeps_no_old_value() -> None:
    metrics = RouterMetrics()
    metrics.held.replace({"a": 3, "b": 1})
    metrics.held.replace({"b": 2, "c": 4})
    held = metrics.snapshot()["shoal_router_held_requests"]
    assert held == {("a",): 0, ("b",): 2, ("c",): 4}


def test_an_endpoint_that_has_left_is_forgotten() -> None:
    metrics = make_metrics()
    metrics.forget_endpoint("http://w1")
    metrics.forget_endpoint("never there")
    assert "http://w1" not in render(metrics.snapshot())


def test_a_snapshot_stays_as_it_was() -> None:
    metrics = make_metrics()
    before = metrics.snapshot()
    copy: Any = to_plain(before)
    text = render(before)
    metrics.model("llama").finished(200, 1.0, 0.1)
    metrics.waited("interactive", 0.1)
    assert render(before) == text
    assert render(from_plain(copy)) == text


def record(endpoint_id: str, status: str) -> EndpointRecord:
    return EndpointRecord(endpoint_id, "http://w", "vllm", [], 1.0, 0.0, {}, status)


def test_statuses_of_endpoints() -> None:
    snapshot = endpoint_statuses([record("a", "ready"), record("b", "draining")])
    statuses = {labels for labels, number in snapshot["shoal_router_endpoint_status"].items()
                if number == 1}  # fmt: skip
    assert statuses == {("a", "ready"), ("b", "draining")}
    assert value(snapshot, "endpoint_status", endpoint="a", status="unhealthy") == 0


def test_every_family_is_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "router-security.md").read_text()
    for family in FAMILIES.values():
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        assert f"`{family.name.removeprefix('shoal_router_')}{labels}`" in page
