"""Files to results: ours, vLLM's, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.benchmarks.report.importers import load_result, load_results
from shoal.benchmarks.result import CompareResult, RunResult, encode
from shoal.errors import ConfigError
from tests.benchmarks.report.samples import make_compare, make_run, vllm_content


def put(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def load_vllm(tmp_path: Path, content: dict[str, Any]) -> RunResult:
    result = load_result(put(tmp_path / "vllm.json", content))
    assert isinstance(result, RunResult)
    return result


def test_ours_comes_back_whole(tmp_path: Path) -> None:
    for original in (make_run(), make_compare()):
        path = tmp_path / "ours.json"
        path.write_bytes(encode(original))
        assert load_result(path) == original


def test_vllm_summary(tmp_path: Path) -> None:
    content = vllm_content()
    run = load_vllm(tmp_path, content)
    assert run.name == "vllm"
    assert run.created == "2026-02-03T10:20:30"
    assert (run.num_requests, run.num_succeeded) == (203, 200)
    assert run.errors == {"failed": 3}
    assert run.requests_per_s == pytest.approx(8.0)
    assert run.output_tokens_per_s == content["output_throughput"]
    assert run.offered_requests_per_s == 8.0
    assert run.ttft_s.count == 200
    assert run.itl_s.count == 200 * 15
    assert run.ttft_s.p50 == pytest.approx(content["median_ttft_ms"] / 1000)
    assert run.ttft_s.p99 == pytest.approx(content["p99_ttft_ms"] / 1000)
    assert run.e2e_s.mean == pytest.approx(content["mean_e2el_ms"] / 1000)
    assert run.ttft_s.p90 is None
    assert run.ttft_s.quantiles == []
    assert run.timeline is None
    assert run.config["model"] == "Qwen/Qwen2.5-0.5B"
    assert run.config["kv"] == "from --metadata"
    assert "duration" not in run.config
    assert any("left, not from the moment it was meant" in text for text in run.warnings)


@pytest.mark.parametrize("latencies_saved", [True, False], ids=["latencies", "older-version"])
def test_vllm_details_give_exact_distributions(tmp_path: Path, latencies_saved: bool) -> None:
    content = vllm_content(detailed=True)
    if not latencies_saved:
        del content["latencies"]
    run = load_vllm(tmp_path, content)
    good = slice(0, 200)
    ttfts = content["ttfts"][good]
    latencies = [t + math.fsum(gaps) for t, gaps in zip(ttfts, content["itls"], strict=False)]
    assert run.ttft_s.count == 200
    assert run.ttft_s.p90 == np.quantile(ttfts, 0.9)
    assert run.ttft_s.max == max(ttfts)
    assert run.itl_s.count == 3000
    assert run.itl_s.p95 == np.quantile(np.concatenate(content["itls"][good]), 0.95)
    assert run.e2e_s.p50 == pytest.approx(np.quantile(latencies, 0.5))
    assert run.tpot_s.p99 == pytest.approx(content["p99_tpot_ms"] / 1000)
    assert len(run.ttft_s.quantiles) == 101
    assert run.error_examples == {"failed": "TimeoutError: too slow"}
    assert run.timeline is not None
    assert sum(run.timeline.errors) == 3
    assert run.requests is not None
    assert run.requests.intended_s[:2] == pytest.approx([0.0, 0.125])
    assert run.requests.error.count("failed") == 3


def test_vllm_details_that_contradict_the_totals_are_not_used(tmp_path: Path) -> None:
    run = load_vllm(tmp_path, vllm_content(detailed=True) | {"completed": 150})
    assert run.ttft_s.quantiles == []
    assert any("do not fit" in text for text in run.warnings)


def test_vllm_without_one_success_has_no_latencies(tmp_path: Path) -> None:
    content = vllm_content(count=200) | {"completed": 0, "failed": 203, "request_throughput": 0.0}
    content |= {key: 0.0 for key in content if key.endswith("_ms")}
    run = load_vllm(tmp_path, content)
    assert run.ttft_s.count == run.itl_s.count == 0
    assert run.ttft_s.p50 is None
    assert run.errors == {"failed": 203}


def test_vllm_oddities(tmp_path: Path) -> None:
    content = vllm_content() | {"request_rate": "inf", "request_goodput": 4.0, "label": "mine"}
    content["p99_ttft_ms"] = math.nan
    del content["failed"]  # older versions
    run = load_vllm(tmp_path, content)
    assert run.name == "mine"
    assert run.offered_requests_per_s is None
    assert run.ttft_s.p99 is None
    assert run.errors == {"failed": 3}
    assert run.goodput is not None
    assert run.goodput.attainment == pytest.approx(4.0 * 25 / 203)


def test_all_requests_within_the_objectives_are_all_of_them(tmp_path: Path) -> None:
    """The file holds a rate, which does not come out at a whole number of requests."""
    content = vllm_content() | {"request_goodput": 203 / 25 * (1 - 1e-7), "failed": 0}
    content |= {"num_prompts": 203, "completed": 203}
    goodput = load_vllm(tmp_path, content).goodput
    assert goodput is not None
    assert goodput.attainment == 1.0


def test_appended_vllm_results_are_several(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    lines = [json.dumps(vllm_content(count=count)) for count in (100, 200)]
    path.write_text("\n".join(lines))
    runs = load_results([path])
    assert [run.name for run in runs if isinstance(run, RunResult)] == ["log", "log #2"]
    with pytest.raises(ConfigError, match="holds 2 results"):
        load_result(path)


def test_names_are_told_apart(tmp_path: Path) -> None:
    for stem, name in (("one", "same"), ("two", "same"), ("three", ""), ("four", "own")):
        (tmp_path / f"{stem}.json").write_bytes(encode(make_run(name)))
    compare = make_compare()
    compare.a.name = compare.b.name = "twin"
    (tmp_path / "ab.json").write_bytes(encode(compare))
    stems = ("one", "two", "three", "four", "ab", "four")
    results = load_results([tmp_path / f"{stem}.json" for stem in stems])
    names: list[str] = []
    for result in results:
        pair = isinstance(result, CompareResult)
        names += [result.a.name, result.b.name] if pair else [result.name]
    assert names == ["same (one)", "same (two)", "three", "own (four)", "twin (ab A)",
                     "twin (ab B)", "own (four) #2"]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"{\n'a': 1}", "is not JSON"),
        (b"\xff\xfe\x00\x80\x81", "is not JSON"),
        (b"[1, 2]", "is not a benchmark result"),
        (b'{"completed": 1}', "is not a benchmark result"),
        (b'{"schema": "other/1"}', "shoal.bench.run/1"),
        (b'{"completed": 1, "duration": 1, "request_throughput": 1}\nnot json', "line 2"),
        (b'{"completed": "many", "duration": 1, "request_throughput": 1}', "many"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.json") as caught:
        load_results([path])
    assert says in str(caught.value)


def test_both_accepted_shapes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shoal bench writes.*vllm bench serve"):
        load_result(put(tmp_path / "x.json", {}))
    with pytest.raises(ConfigError, match="does not exist"):
        load_result(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_result(tmp_path)


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    content = vllm_content(detailed=True)
    content["itls"].pop()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_result(put(tmp_path / "x.json", content))
