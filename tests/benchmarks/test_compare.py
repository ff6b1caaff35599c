from __future__ import annotations

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.compare import run_compare, turns
from shoal.benchmarks.report.html import render_html
from shoal.benchmarks.report.table import report_table
from shoal.benchmarks.result import decode, encode
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.spec import WorkloadSpec
from tests.benchmarks.conftest import fake_worker, interrupted


def test_nobody_is_always_second() -> None:
    assert list(turns(3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


async def test_the_slower_server_is_found(worker_url: str) -> None:
    def load_test(url: str) -> LoadTest:
        return LoadTest(
            url=url,
            form=RequestForm(model=""),
            workload=WorkloadSpec(input_len="16", output_len="4"),
            load=Load(concurrency=2, num_sessions=2),
        )

    with fake_worker("--ttft", "1.0", "--itl", "0.002") as slow:
        result = await run_compare(load_test(worker_url), load_test(slow), num_pairs=3)
    ttft = result.ratios["ttft_p50_s"]
    assert ttft.geometric_mean < 0.5  # 10 ms beside a second
    assert ttft.low is not None
    assert ttft.high is not None
    assert ttft.low < ttft.geometric_mean < ttft.high
    assert len(ttft.pairs) == 3
    assert result.ratios["output_tokens_per_s"].geometric_mean > 2.0
    assert (result.a.num_succeeded, result.b.num_succeeded) == (6, 6)
    assert next(iter(result.ratios)) == "requests_per_s"


def load_test(url: str, *, duration_s: float) -> LoadTest:
    return LoadTest(
        url=url,
        form=RequestForm(model=""),
        workload=WorkloadSpec(input_len="16", output_len="2"),
        load=Load(concurrency=2, duration_s=duration_s),
    )


async def test_what_was_measured_of_the_first_pair_survives(worker_url: str) -> None:
    test = load_test(worker_url, duration_s=60.0)
    result = await interrupted(
        lambda seen: run_compare(test, test, num_pairs=3, on_progress=lambda *told: seen(told[2]))
    )
    assert result.interrupted
    assert result.a.num_succeeded > 5
    assert (result.b.num_requests, result.ratios, result.config["num_pairs"]) == (0, {}, 0)
    assert "not one pair is complete" in result.warnings[0]
    assert decode(encode(result), source="") == result
    render_html([result])
    report_table([result])


async def test_a_server_beside_itself_is_told(worker_url: str) -> None:
    test = load_test(worker_url, duration_s=0.2)
    result = await run_compare(test, test, num_pairs=2)
    (warning,) = result.warnings
    assert "one server" in warning
