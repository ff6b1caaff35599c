"""Turns, medians and ratios."""

from __future__ import annotations

import pytest

from shoal.benchmarks.peers.comparison import best_peer, medians, ratios, turns
from tests.benchmarks.peers.lines import error_line, result_of, speed_line


def test_each_repeat_has_every_server_once_and_begins_one_further_on() -> None:
    assert list(turns(["a", "b", "c"], 4)) == [
        (0, "a"), (0, "b"), (0, "c"),
        (1, "b"), (1, "c"), (1, "a"),
        (2, "c"), (2, "a"), (2, "b"),
        (3, "a"), (3, "b"), (3, "c"),
    ]  # fmt: skip


def test_medians_are_by_server_case_and_figure_without_failed_lines() -> None:
    lines = [
        speed_line("vllm", 0, "c1", 10.0),
        speed_line("vllm", 1, "c1", 30.0),
        speed_line("vllm", 2, "c1", 14.0),
        error_line("vllm", 3, "c1", "died"),
        speed_line("vllm", 0, "c8", 50.0),
    ]
    found = medians(lines)
    assert found["vllm"]["c1"]["output_tokens_per_s"] == 14.0
    assert found["vllm"]["c1"]["total_tokens_per_s"] == 28.0
    assert found["vllm"]["c8"]["output_tokens_per_s"] == 50.0


def test_the_best_peer_is_never_ourselves() -> None:
    lines = [
        speed_line("shoal", 0, "c1", 99.0),
        speed_line("shoal-bf16", 0, "c1", 98.0),
        speed_line("vllm", 0, "c1", 10.0),
        speed_line("llama.cpp", 0, "c1", 20.0),
    ]
    assert best_peer(medians(lines), "c1") == "llama.cpp"
    assert best_peer(medians(lines), "c8") is None
    assert best_peer(medians(lines[:2]), "c1") is None
    assert result_of(lines).ratio_to_best_peer == {"c1": 4.95}
    assert result_of(lines).ratio_to_best_peer_bf16 == {"c1": 4.9}


def test_a_ratio_is_taken_within_a_repeat_and_the_median_over_repeats() -> None:
    lines = [
        speed_line("shoal", 0, "c1", 10.0), speed_line("vllm", 0, "c1", 20.0),
        speed_line("shoal", 1, "c1", 30.0), speed_line("vllm", 1, "c1", 20.0),
        speed_line("shoal", 2, "c1", 8.0), speed_line("vllm", 2, "c1", 10.0),
    ]  # fmt: skip
    assert ratios(lines, "c1", "vllm") == pytest.approx([0.5, 1.5, 0.8])
    result = result_of(lines)
    assert result.ratio_to_best_peer == {"c1": 0.8}
    assert result.best_peer == {"c1": "vllm"}


def test_a_repeat_without_both_sides_gives_no_ratio() -> None:
    lines = [
        speed_line("shoal", 0, "c1", 10.0), error_line("vllm", 0, "c1", "died"),
        error_line("shoal", 1, "c1", "died"), speed_line("vllm", 1, "c1", 20.0),
    ]  # fmt: skip
    assert ratios(lines, "c1", "vllm") == []
    assert result_of(lines).ratio_to_best_peer == {}


def test_only_the_throughput_loads_have_a_ratio() -> None:
    lines = [speed_line(server, 0, "prefix", 10.0) for server in ("shoal", "vllm")]
    assert result_of(lines).ratio_to_best_peer == {}
