"""Requests to an engine over a core process of fakes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psutil
import pytest
import zmq
import zmq.asyncio

from shoal.engine.async_engine import AsyncEngine
from shoal.errors import (
    ConfigError,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    QueueFull,
    QueueTimeout,
)
from tests.engine.fake_core import BLOCK_SIZE, MAX_MODEL_LEN, SLOW, VOCAB_SIZE
from tests.engine.fake_engine import (
    StartEngine,
    complete,
    core_pid,
    make_engine,
    outputs,
    wait_until,
)
from tests.ports import free_port

# -- what comes out -------------------------------------------------------------------------


async def test_streams_deltas_to_the_length_limit(engine: AsyncEngine) -> None:
    deltas = [output async for output in outputs(engine, "abc", max_tokens=5)]

    assert "".join(delta.text for delta in deltas) == "abcab"
    assert [token for delta in deltas for token in delta.token_ids] == list(b"abcab")
    assert [delta.finish_reason for delta in deltas][:-1] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length"
    assert deltas[0].queue_s is not None
    assert all(delta.queue_s is None for delta in deltas[1:])


async def test_end_of_sequence_is_a_token_but_no_text(engine: AsyncEngine) -> None:
    output = await complete(engine, "ab\0", max_tokens=9)
    assert (output.text, output.token_ids) == ("ab", [97, 98, 0])
    assert (output.finish_reason, output.stop_reason) == ("stop", None)


async def test_stop_token_is_named_and_hidden_unless_asked_for(engine: AsyncEngine) -> None:
    hidden = await complete(engine, "abc", max_tokens=9, stop_token_ids=(98,))
    assert (hidden.text, hidden.finish_reason, hidden.stop_reason) == ("a", "stop", 98)
    shown = await complete(
        engine, "abc", max_tokens=9, stop_token_ids=(98,), include_stop_str_in_output=True
    )
    assert shown.text == "ab"


async def test_stop_string_across_tokens_ends_here_and_in_the_core(engine: AsyncEngine) -> None:
    output = await complete(engine, "hello world", max_tokens=900, stop=("o w",))

    assert (output.text, output.finish_reason, output.stop_reason) == ("hell", "stop", "o w")
    await wait_until(lambda: engine.stats().scheduler.num_running == 0)
    assert engine.stats().num_requests == 0


async def test_ignore_eos_and_min_tokens_reach_the_core(engine: AsyncEngine) -> None:
    output = await complete(engine, "a\0", max_tokens=4, ignore_eos=True)
    assert output.token_ids == [97, 0, 97, 0]


async def test_logprobs_come_with_their_tokens(engine: AsyncEngine) -> None:
    output = await complete(engine, "ab", max_tokens=3, logprobs=0)
    assert [entry.token_ids for entry in output.logprobs] == [[97], [98], [97]]


async def test_a_shared_prefix_is_reported_as_cached(engine: AsyncEngine) -> None:
    prompt = "x" * 40
    assert (await complete(engine, prompt, max_tokens=1)).num_cached_tokens == 0
    assert (await complete(engine, prompt, max_tokens=1)).num_cached_tokens == 32


async def test_many_requests_do_not_mix(engine: AsyncEngine) -> None:
    results = await asyncio.gather(
        *(complete(engine, f"<{i}>", request_id=f"r{i}", max_tokens=40) for i in range(100))
    )
    for i, result in enumerate(results):
        assert result.text == (f"<{i}>" * 40)[:40]
    await wait_until(lambda: engine.stats().scheduler.kv_cache_usage == 0)


async def test_a_slow_consumer_gets_one_delta_of_what_it_missed(engine: AsyncEngine) -> None:
    stream = outputs(engine, "abc", max_tokens=300)
    first = await anext(stream)
    await wait_until(lambda: engine.stats().num_requests == 0)
    rest = [output async for output in stream]
    assert len(rest) == 1
    assert len(first.token_ids) + len(rest[0].token_ids) == 300
    assert rest[0].finish_reason == "length"


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "params", "words"),
    [
        ([], {}, ["empty"]),
        ([VOCAB_SIZE], {}, [str(VOCAB_SIZE), f"0 to {VOCAB_SIZE - 1}"]),
        ([-1], {}, ["-1"]),
        ([1] * MAX_MODEL_LEN, {}, [f"has {MAX_MODEL_LEN} tokens", f"is {MAX_MODEL_LEN} tokens"]),
        ([1], {"logit_bias": {VOCAB_SIZE: 1.0}}, ["logit_bias"]),
        ([1], {"stop_token_ids": (-5,)}, ["stop_token_ids", "-5"]),
        ([1, 2], {"output_offset": 2}, ["shoal_output_offset is 2", "has 2 tokens"]),
        ([1], {"seed": 2**70}, ["cannot be used"]),
        ([1], {"stop": ("\ud800",)}, ["cannot be used"]),
    ],
)
async def test_impossible_requests_are_refused_with_the_reason(
    engine: AsyncEngine, prompt: list[int], params: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await complete(engine, prompt, **params)
    for word in words:
        assert word in refusal.value.message
    assert engine.stats().num_requests == 0


async def test_too_long_has_openai_code(engine: AsyncEngine) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await complete(engine, [1] * (MAX_MODEL_LEN + 5))
    assert refusal.value.code == "context_length_exceeded"


async def test_an_id_in_use_is_refused_and_free_again_afterwards(engine: AsyncEngine) -> None:
    stream = outputs(engine, [97, SLOW], max_tokens=900)
    await anext(stream)
    with pytest.raises(InvalidRequest, match="already in use"):
        await complete(engine, "b")
    await stream.aclose()
    assert (await complete(engine, "b", max_tokens=2)).text == "bb"


async def test_queue_bound_and_deadline(start_engine: StartEngine) -> None:
    engine = await start_engine(max_num_seqs=1, max_num_waiting=1, queue_timeout_s=0.2)
    running = outputs(engine, [97, SLOW], request_id="running", max_tokens=900)
    await anext(running)
    waiting = asyncio.create_task(complete(engine, "b", request_id="waiting"))
    await asyncio.sleep(0)

    with pytest.raises(QueueFull) as full:
        await complete(engine, "c", request_id="refused")
    assert full.value.retry_after_s is not None
    with pytest.raises(QueueTimeout) as late:
        await waiting
    assert late.value.retry_after_s is not None
    assert (await anext(running)).token_ids


# -- leaving early --------------------------------------------------------------------------


async def test_closing_the_iterator_aborts_in_the_core(engine: AsyncEngine) -> None:
    stream = outputs(engine, [97, SLOW], max_tokens=900)
    await anext(stream)
    await stream.aclose()
    await wait_until(lambda: engine.stats().scheduler.num_running == 0)
    assert engine.stats().scheduler.kv_cache_usage == 0


async def test_cancelling_the_consumer_aborts_in_the_core(engine: AsyncEngine) -> None:
    consumer = asyncio.create_task(complete(engine, [97, SLOW], max_tokens=900))
    await wait_until(lambda: engine.stats().scheduler.num_running == 1)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    await wait_until(lambda: engine.stats().scheduler.num_running == 0)


async def test_leavers_at_random_moments_leave_nothing_behind(engine: AsyncEngine) -> None:
    random = Random(7)

    async def come_and_go(i: int) -> None:
        stream = outputs(engine, f"<{i}>", request_id=f"r{i}", max_tokens=60)
        async with contextlib.aclosing(stream), asyncio.timeout(random.uniform(0, 0.2)):
            async for _ in stream:
                if random.random() < 0.02:
                    break

    results = await asyncio.gather(*map(come_and_go, range(200)), return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), TimeoutError}
    assert engine.stats().num_requests == 0
    assert (await complete(engine, "ab", max_tokens=4)).text == "abab"
    await wait_until(lambda: engine.stats().scheduler.num_running == 0)
    assert engine.stats().scheduler.num_waiting == 0
    assert engine.stats().scheduler.kv_cache_usage == 0
    assert engine.stats().num_core_restarts == 0


async def test_shutdown_lets_short_requests_end(engine: AsyncEngine) -> None:
    consumer = asyncio.create_task(complete(engine, [97, SLOW], max_tokens=10))
    await wait_until(lambda: engine.stats().num_requests == 1)
    stopping = asyncio.create_task(engine.shutdown(drain_timeout_s=10))
    await asyncio.sleep(0)
    assert not engine.is_ready
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await complete(engine, "b", request_id="late")
    assert (await consumer).finish_reason == "length"
    await stopping


async def test_shutdown_aborts_what_outlasts_the_drain(engine: AsyncEngine) -> None:
    consumer = asyncio.create_task(complete(engine, [97, SLOW], max_tokens=900))
    await wait_until(lambda: engine.stats().scheduler.num_running == 1)
    pid = core_pid()
    await engine.shutdown(drain_timeout_s=0.05)
    assert (await consumer).finish_reason == "abort"
    assert not psutil.pid_exists(pid)


async def test_the_socket_is_out_of_reach_once_the_core_is_connected(
    start_engine: StartEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = await start_engine()
    assert os.listdir(tmp_path) == []
    assert (await complete(engine, "ab", max_tokens=2)).text == "ab"


# -- what else it does ----------------------------------------------------------------------


def test_importing_the_engine_pulls_in_no_torch() -> None:
    code = "import sys, shoal.engine.async_engine; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


async def replayed(endpoint: str) -> list[tuple[int, list[Any]]]:
    """All batches of KV events so far, as (number, events)."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.connect(endpoint)
        await asking.send_multipart([b"", (0).to_bytes(8, "big")])
        batches: list[tuple[int, list[Any]]] = []
        while True:
            async with asyncio.timeout(30):
                _, _, number, payload = await asking.recv_multipart()
            if int.from_bytes(number, "big", signed=True) < 0:
                return batches
            batches.append((int.from_bytes(number, "big"), msgspec.msgpack.decode(payload)[1]))


async def test_kv_events_are_published_and_replayed_while_the_core_is_idle(
    start_engine: StartEngine,
) -> None:
    publish, replay = free_endpoint(), free_endpoint()
    engine = await start_engine(kv_events_endpoint=publish, kv_events_replay_endpoint=replay)
    assert engine.kv_event_endpoints == (publish, replay)
    assert await replayed(replay) == [(0, [{"type": "AllBlocksCleared"}])]
    prompt = list(range(1, 50))
    await complete(engine, prompt, max_tokens=2)
    batches = await replayed(replay)
    assert [number for number, _ in batches] == list(range(len(batches)))
    stored = [event for _, events in batches[1:] for event in events]
    assert {event["type"] for event in stored} == {"BlockStored"}
    assert [token for event in stored for token in event["token_ids"]] == prompt[:48]
    assert {event["block_size"] for event in stored} == {BLOCK_SIZE}


async def test_an_address_for_kv_events_that_is_taken_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot publish KV events"):
            await make_engine(kv_events_endpoint=endpoint).start()


async def test_a_profile_is_taken_by_the_core(start_engine: StartEngine) -> None:
    engine = await start_engine(torch_profiler_dir="/traces")
    with pytest.raises(InvalidRequest, match="Profiling: it does not run"):
        await engine.profiler.stop()
    await engine.profiler.start()
    with pytest.raises(InvalidRequest, match="Profiling: it runs already"):
        await engine.profiler.start()
    assert await engine.profiler.stop() == "/traces/trace"


async def test_profiles_that_are_switched_off_or_not_to_be_had(start_engine: StartEngine) -> None:
    engine = await start_engine()
    with pytest.raises(NotFound, match="start the server with --torch-profiler-dir FOLDER"):
        _ = engine.profiler
    engine = await start_engine(torch_profiler_dir="none")
    with pytest.raises(InvalidRequest, match="this engine core has no profiler"):
        await engine.profiler.start()
