"""What Shoal is judged by, from lines."""

from __future__ import annotations

from shoal.benchmarks.peers.peers_result import Line
from shoal.benchmarks.router.verdict import verdict
from tests.benchmarks.router.router_lines import line


def test_ratios_are_taken_within_a_repeat() -> None:
    lines = [
        line("shoal", "paced", 0, cpu_us_per_request=100),
        line("vllm-router", "paced", 0, cpu_us_per_request=200),
        line("shoal", "paced", 1, cpu_us_per_request=300),
        line("vllm-router", "paced", 1, cpu_us_per_request=400),
        line("shoal", "paced", 2, cpu_us_per_request=1),  # without a rival: counts for nothing
    ]
    assert verdict(lines)["cpu_us_per_request_ratio_to_vllm_router"] == 0.625


def test_the_best_of_the_two_rust_routers_is_the_rival() -> None:
    lines = [
        line("shoal", "saturation", requests_per_s=20_000),
        line("vllm-router", "saturation", requests_per_s=12_500),
        line("sglang-router", "saturation", requests_per_s=10_000),
        line("nginx", "saturation", requests_per_s=50_000),
        line("shoal", "streams", cpu_ms_per_1k_tokens=20),
        line("vllm-router", "streams", cpu_ms_per_1k_tokens=42),
        line("sglang-router", "streams", cpu_ms_per_1k_tokens=40),
    ]
    found = verdict(lines)
    assert found["rps_ratio_to_best_rust"] == 1.6
    assert found["cpu_ms_per_1k_tokens_ratio_to_best_rust"] == 0.5


def test_added_latency_is_over_the_workers_alone() -> None:
    lines = [
        line("direct", "streams", 0, ttft_p50_ms=50.0, ttft_p99_ms=52.0),
        line("shoal", "streams", 0, ttft_p50_ms=50.5, ttft_p99_ms=60.0),
    ]
    found = verdict(lines)
    assert (found["added_ttft_p50_ms"], found["added_ttft_p99_ms"]) == (0.5, 8.0)


def test_failures_are_summed_over_repeats_and_cases() -> None:
    lines = [
        line("shoal", "kill9", 0, failed=1, cut=0),
        line("shoal", "kill9", 1, failed=0, cut=0),
        line("shoal", "kill9-streams", 0, failed=2, cut=5),
        line("nginx", "kill9", 0, failed=50, cut=0),
        line("shoal", "restart-workers", 0, failed=1, cut=1),
        line("shoal", "restart-router", 0, failed=0, cut=2),
    ]
    found = verdict(lines)
    assert (found["kill9_failed"], found["streams_cut"], found["restart_failed"]) == (3, 5, 4)


def test_what_was_not_measured_is_not_zero() -> None:
    broken = Line(server="shoal", repeat=0, case="kill9", error="BenchFailed: it did not start")
    found = verdict([broken])
    assert found["kill9_failed"] is None
    assert found["prefix_hit_rate"] is None
    assert found["shoal_errors"] == 1
