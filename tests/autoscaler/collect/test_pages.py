"""The pages that routers and workers really have, in the names this reads them by."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from shoal.autoscaler.collect import worker_page as of
from shoal.autoscaler.collect.buckets import in_time
from shoal.autoscaler.collect.router_page import ARRIVALS, FAMILIES, read_endpoints, read_router
from shoal.autoscaler.collect.worker_page import read_worker
from shoal.engine.server.metrics import RequestMetrics
from shoal.router.telemetry.exposition import render
from shoal.router.telemetry.metrics import RouterMetrics


def router_page(metrics: RouterMetrics) -> bytes:
    return render(metrics.snapshot()).encode()


def test_a_routers_page() -> None:
    metrics = RouterMetrics()
    metrics.know_models(["a", "m"])
    for name, count in (("a", 9), ("m", 4)):
        metrics.model(name).arrivals += count
        metrics.model(name).began(0.3)
        metrics.model(name).began(9.0)
    metrics.model_queued.set("m", 2)
    metrics.held.set("m", 1)
    page = read_router(router_page(metrics), "m")
    assert page is not None
    assert page.counts[ARRIVALS] == 4
    assert in_time(page.counts, 1.0) == (2.0, 1.0)
    assert (page.queued, page.held) == (2, 1)


def test_a_router_that_was_never_asked_for_the_model_says_zero() -> None:
    page = read_router(router_page(RouterMetrics()), "m")
    assert page is not None
    assert (page.counts, page.queued, page.held) == ({ARRIVALS: 0}, 0, 0)


def test_the_families_that_are_asked_for_are_all_that_is_needed() -> None:
    metrics = RouterMetrics()
    metrics.know_models(["m"])
    metrics.model("m").arrivals += 4
    metrics.model("m").began(0.3)
    metrics.held.set("m", 1)
    snapshot = metrics.snapshot()
    few, all_of_them = render(snapshot, FAMILIES), render(snapshot)
    assert read_router(few.encode(), "m") == read_router(all_of_them.encode(), "m")
    assert few.count("# TYPE") == len(FAMILIES) == 4


def test_what_is_no_router() -> None:
    assert read_router(b"vllm:num_requests_running 3\n", "m") is None


def test_the_page_of_a_worker_of_ours() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, model_name="m", max_model_len=4096)
    metrics.prompt_tokens.inc(100)
    metrics.generation_tokens.inc(7)
    metrics.time_to_first_token.observe(0.3)
    metrics.inter_token_latency.observe(0.5)
    metrics.inter_token_latency.observe(0.25)
    page = read_worker(generate_latest(registry))
    assert page is not None
    assert page.counts[of.PROMPT] == 100
    assert page.counts[of.GENERATED] == 7
    assert page.counts[of.GAP_SECONDS] == 0.75
    assert in_time(page.counts, 0.5) == (1.0, 1.0)
    assert page.has_gaps


def test_older_and_other_engines() -> None:
    page = read_worker(
        b'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 4\n'
        b'vllm:gpu_cache_usage_perc{engine="0"} 0.25\nvllm:gpu_cache_usage_perc{engine="1"} 0.5\n'
        b"vllm:generation_tokens_total 10\n"
    )
    assert page is not None
    assert (page.num_running, page.kv_usage, page.num_waiting) == (7.0, 0.5, None)
    assert not page.has_gaps
    sglang = read_worker(
        b"sglang:num_running_reqs 2\nsglang:num_queue_reqs 1\nsglang:token_usage 0.75\n"
        b'sglang:generation_tokens_total{is_streaming="true"} 11\n'
        b'sglang:prompt_tokens_total 40\nsglang:cached_tokens_total{cache_source="device"} 3\n'
        b'sglang:cached_tokens_total{cache_source="host"} 4\nsglang:num_requests_total 2\n'
        b"sglang:inter_token_latency_seconds_sum 1.5\n"
        b'sglang:time_to_first_token_seconds_bucket{le="1"} 2\n'
        b'sglang:time_to_first_token_seconds_bucket{le="+Inf"} 3\n'
    )
    assert sglang is not None
    assert (sglang.num_running, sglang.num_waiting, sglang.kv_usage) == (2.0, 1.0, 0.75)
    assert sglang.counts == {
        of.GENERATED: 11.0, of.PROMPT: 40.0, of.CACHED: 7.0, of.FINISHED: 2.0, of.GAP_SECONDS: 1.5,
        "ttft<=1.0": 2.0, "ttft<=inf": 3.0,
    }  # fmt: skip
    assert sglang.has_gaps


def test_what_is_no_worker() -> None:
    assert read_worker(b"<html></html>") is None


def test_endpoints_of_a_router() -> None:
    [endpoint] = read_endpoints(
        b'{"endpoints": [{"endpoint_id": "a", "url": "http://a", "models": ["m", "lora"],'
        b' "labels": {"gpu": "h100"}, "status": "draining", "weight": 1.0}], "held": {}}'
    )
    assert endpoint.serves("lora")
    assert not endpoint.serves("x")
    assert not endpoint.is_ready
