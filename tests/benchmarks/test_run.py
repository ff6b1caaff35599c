"""Whole load tests against a fake worker in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.fleet import Fleet, Progress
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.preflight import ServerUnusable
from shoal.benchmarks.run import run_load
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.benchmarks.workload.spec import WorkloadSpec
from shoal.errors import ConfigError
from tests.benchmarks.client.raw_server import raw_server
from tests.benchmarks.conftest import interrupted

SHORT = WorkloadSpec(input_len="32", output_len="5")
_seeds = itertools.count(10_000, 100)
"""A test each: the worker has the prompts of others in its prefix cache."""


def load_test(url: str, **fields: Any) -> LoadTest:
    given: dict[str, Any] = {
        "url": url,
        "form": RequestForm(model=""),
        "workload": msgspec.structs.replace(SHORT, seed=next(_seeds)),
        "load": Load(concurrency=4, num_sessions=12),
    }
    return LoadTest(**given | fields)


def set_faults(url: str, **fault: Any) -> None:
    httpx.post(f"{url}/faults", json={"faults": [fault]}).raise_for_status()


async def test_a_closed_loop(worker_url: str) -> None:
    result = await run_load(load_test(worker_url))
    assert (result.num_requests, result.num_succeeded, result.errors) == (12, 12, {})
    assert result.name == "fake"  # the model it found
    assert (result.prompt_tokens, result.output_tokens) == (12 * 32, 12 * 5)
    assert (result.ttft_s.count, result.itl_s.count) == (12, 12 * 4)
    assert result.ttft_s.min is not None
    assert result.ttft_s.min >= 0.0095
    assert result.offered_requests_per_s is None
    assert result.warnings == []


async def test_an_open_loop_sends_what_was_planned(worker_url: str) -> None:
    arrivals = ArrivalSpec(rate=20.0, process="constant")
    load = Load(arrivals=arrivals, duration_s=1.0)
    result = await run_load(load_test(worker_url, load=load, save_requests=True))
    assert result.num_requests == 20
    assert result.requests is not None
    assert result.requests.intended_s == pytest.approx([i / 20 for i in range(20)])
    assert result.offered_requests_per_s == pytest.approx(20.0)


async def test_processes_share_one_plan(worker_url: str) -> None:
    arrivals = ArrivalSpec(rate=30.0)
    load = Load(arrivals=arrivals, num_sessions=15)
    test = load_test(worker_url, load=load, save_requests=True)
    one = await run_load(test)
    three = await run_load(msgspec.structs.replace(test, num_processes=3))
    assert one.requests is not None
    assert three.requests is not None
    assert three.requests.intended_s == pytest.approx(one.requests.intended_s)
    assert three.client is not None
    assert len(three.client.cpu_cores) == 3


async def test_repeats_have_intervals_and_prompts_of_their_own(worker_url: str) -> None:
    workload = WorkloadSpec(input_len="64", output_len="3", seed=700)
    result = await run_load(load_test(worker_url, workload=workload, repeats=3))
    assert result.num_requests == 36
    assert result.intervals["ttft_p50_s"].count == 3
    assert result.cached_tokens == 0


async def test_a_shared_prefix_is_found_in_the_cache(worker_url: str) -> None:
    workload = WorkloadSpec(input_len="16", output_len="2", prefix_len="64", seed=701)
    load = Load(concurrency=1, num_sessions=5)
    result = await run_load(load_test(worker_url, workload=workload, load=load))
    assert result.cached_tokens == 4 * 64
    assert result.prompt_tokens == 5 * 80


async def test_conversations_grow(worker_url: str) -> None:
    workload = WorkloadSpec(
        kind="chat", input_len="20", output_len="6", num_turns="3", pause_s="0", seed=702
    )
    form = RequestForm(model="", endpoint="chat")
    load = Load(concurrency=1, num_sessions=1)
    test = load_test(worker_url, workload=workload, form=form, load=load, save_requests=True)
    result = await run_load(test)
    assert result.requests is not None
    first, second, third = (tokens or 0 for tokens in result.requests.prompt_tokens)
    assert second - first >= 26
    assert third - second == second - first


async def test_the_server_is_watched(worker_url: str) -> None:
    load = Load(concurrency=4, num_sessions=60)
    test = load_test(worker_url, load=load, pid=os.getpid())
    result = await run_load(test)
    server = result.server
    assert server is not None
    assert server.counters["vllm:generation_tokens_total"] == 60 * 5
    assert "vllm:num_requests_running" in server.gauges
    assert server.rss_bytes is not None
    assert min(server.rss_bytes.values) > 1e6
    assert server.problem is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "error"}, "http_500"),
        ({"kind": "overload"}, "http_503"),
        ({"kind": "abort"}, "disconnect"),
        ({"kind": "cut", "after_tokens": 2}, "cut_stream"),
        ({"kind": "stall", "after_tokens": 2}, "timeout"),
        ({"kind": "hang"}, "timeout"),
    ],
)
async def test_failures_are_told_apart(worker_url: str, fault: dict[str, Any], kind: str) -> None:
    set_faults(worker_url, **fault)
    load = Load(concurrency=2, num_sessions=4)
    timeout_s = 0.5 if kind == "timeout" else 30.0
    test = load_test(worker_url, load=load, warmup=0, timeout_s=timeout_s, slo={"ttft": 10.0})
    result = await run_load(test)
    assert (result.num_succeeded, result.errors) == (0, {kind: 4})
    assert result.output_tokens_per_s == 0
    assert result.goodput is not None
    assert result.goodput.attainment == 0.0


async def test_a_fault_of_one_is_no_fault_of_the_others(worker_url: str) -> None:
    set_faults(worker_url, kind="error", probability=0.5)
    load = Load(concurrency=4, num_sessions=40)
    result = await run_load(load_test(worker_url, load=load, warmup=0))
    assert result.num_requests == 40
    assert 5 < result.num_succeeded < 35
    assert result.ttft_s.count == result.num_succeeded


async def test_other_lengths_than_asked_for_are_told(worker_url: str) -> None:
    set_faults(worker_url, kind="wrong-length", after_tokens=2)
    result = await run_load(load_test(worker_url, warmup=0))
    assert result.num_succeeded == 12
    assert any("another length" in warning for warning in result.warnings)


async def test_what_was_measured_survives_an_interruption(worker_url: str) -> None:
    load = Load(arrivals=ArrivalSpec(rate=50.0, process="constant"), duration_s=60.0)
    test = load_test(worker_url, load=load)
    result = await interrupted(lambda seen: run_load(test, lambda _, progress: seen(progress)))
    assert result.interrupted
    assert result.num_succeeded > 5
    assert result.errors == {}
    assert result.offered_requests_per_s == pytest.approx(50.0, rel=0.3)


def kill_a_sender(progress: Progress) -> None:
    """Once it has sent something, as the kernel does when memory runs out."""
    if len(progress.records) > 5:
        for child in psutil.Process().children():
            if f"{Fleet.__module__.rpartition('.')[0]}.process" in child.cmdline():
                child.kill()


async def test_what_was_measured_survives_a_load_generator_that_breaks(worker_url: str) -> None:
    load = Load(arrivals=ArrivalSpec(rate=50.0), duration_s=60.0)
    test = load_test(worker_url, load=load)
    result = await run_load(test, lambda _, progress: kill_a_sender(progress))
    assert result.interrupted
    assert result.problem == "the load generator ended without a word"
    assert result.num_succeeded > 5


async def test_what_a_stalled_server_makes_wait_is_counted() -> None:
    """It answers nothing for 0.8 s: requests go on coming due, and each counts from its time."""
    stall_s, stalled_until = 0.8, 0.0

    async def handler(number: int, writer: asyncio.StreamWriter) -> None:
        nonlocal stalled_until
        if server.requests[number - 1].startswith(b"GET"):
            writer.write(answer(b'{"data": [{"id": "m"}]}', b"application/json"))
            return
        if number_of_posts() == 10:
            stalled_until = time.perf_counter() + stall_s
        await asyncio.sleep(stalled_until - time.perf_counter())
        writer.write(answer(b'data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n'))

    def number_of_posts() -> int:
        return sum(request.startswith(b"POST /v1") for request in server.requests)

    def answer(body: bytes, kind: bytes = b"text/event-stream") -> bytes:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        return head % (kind, len(body)) + body

    load = Load(arrivals=ArrivalSpec(rate=20.0, process="constant"), num_sessions=40)
    async with raw_server(handler) as server:
        result = await run_load(load_test(server.url, load=load, save_requests=True, warmup=0))
    assert result.num_succeeded == 40
    assert result.requests is not None
    waited = [ttft for ttft in result.requests.ttft_s if ttft is not None and ttft > 0.05]
    # Due at 0, 50, 100, ... 750 ms of the stall: a closed loop would have seen one such wait.
    assert len(waited) >= 12
    assert sum(waited) >= 0.75 * sum(stall_s - i / 20 for i in range(16))


async def test_a_number_of_requests_is_offered_in_the_time_it_takes(worker_url: str) -> None:
    load = Load(
        arrivals=ArrivalSpec(rate=40.0, process="constant"), num_sessions=20, duration_s=60.0
    )
    result = await run_load(load_test(worker_url, load=load))
    assert result.offered_requests_per_s == pytest.approx(20 / (19 / 40))


async def test_files_of_the_working_folder_are_not_imported(
    worker_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert (await run_load(load_test(worker_url))).num_succeeded == 12


async def test_prompts_may_be_token_ids(worker_url: str) -> None:
    workload = msgspec.structs.replace(SHORT, as_token_ids=True)
    result = await run_load(load_test(worker_url, workload=workload))
    assert result.prompt_tokens == 12 * 32


async def test_a_bad_workload_ends_before_it_begins(worker_url: str) -> None:
    workload = WorkloadSpec(kind="jsonl", path="/does/not/exist.jsonl")
    with pytest.raises(ConfigError, match=r"exist\.jsonl"):
        await run_load(load_test(worker_url, workload=workload))


async def test_a_server_that_fails_the_first_request_is_not_loaded(worker_url: str) -> None:
    set_faults(worker_url, kind="error")
    with pytest.raises(ServerUnusable, match="http_500"):
        await run_load(load_test(worker_url))


async def test_a_model_that_is_not_served(worker_url: str) -> None:
    with pytest.raises(ServerUnusable, match="it has: fake"):
        await run_load(load_test(worker_url, form=RequestForm(model="gpt-9")))


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnusable, match="cannot reach"):
        await run_load(load_test(f"http://127.0.0.1:{port}"))


async def test_results_hold_no_key(worker_url: str) -> None:
    result = await run_load(load_test(worker_url, headers={"Authorization": "Bearer sesame"}))
    assert b"sesame" not in msgspec.json.encode(result)


@pytest.mark.parametrize(
    ("load", "output_len", "expected"),
    [
        (Load(concurrency=10), "10", 1),
        (Load(concurrency=257), "10", 2),
        (Load(arrivals=ArrivalSpec(rate=1.0)), "100", 1),
        (Load(arrivals=ArrivalSpec(rate=200.0)), "100", 2),
    ],
)
def test_big_loads_get_more_processes(
    monkeypatch: pytest.MonkeyPatch, load: Load, output_len: str, expected: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    workload = WorkloadSpec(output_len=output_len)
    test = load_test("http://x", load=load, workload=workload)
    assert test.processes() == expected
    assert msgspec.structs.replace(test, num_processes=5).processes() == 5
