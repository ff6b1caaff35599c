"""Every cut of a stream of one fake worker, resumed on another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shoal.benchmarks.fake_worker.cost_model import CostModel
from shoal.benchmarks.fake_worker.engine import FakeEngineConfig
from shoal.benchmarks.fake_worker.server import create_app
from shoal.benchmarks.fake_worker.settings import FakeWorkerSettings
from shoal.benchmarks.fake_worker.worker import FakeWorker
from shoal.router.core.types import EngineKind
from tests.router.failover.cutting import (
    CHAT,
    COMPLETIONS,
    cuts_of,
    prepared,
    read,
    recorder_of,
    resumed,
    upstream,
)

MESSAGES = [{"role": "user", "content": "Say something."}]


def fake_client() -> httpx.AsyncClient:
    config = FakeEngineConfig(cost=CostModel(ttft_s=0.0, itl_s=0.0))
    app = create_app(FakeWorker(FakeWorkerSettings(engine=config)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")


@pytest.fixture
async def first() -> AsyncIterator[httpx.AsyncClient]:
    async with fake_client() as client:
        yield client


@pytest.fixture
async def second() -> AsyncIterator[httpx.AsyncClient]:
    async with fake_client() as client:
        yield client


def bodies() -> list[Any]:
    chat = {"model": "fake", "messages": MESSAGES, "max_tokens": 6, "temperature": 0}
    completion = {"model": "fake", "prompt": "Say something.", "max_tokens": 6, "temperature": 0}
    usage = {"stream_options": {"include_usage": True}}
    replay = {"tools": []}
    return [
        pytest.param(CHAT, chat, id="chat"),
        pytest.param(CHAT, {**chat, **usage}, id="chat with usage"),
        pytest.param(CHAT, {**chat, "return_token_ids": True}, id="chat with token ids"),
        pytest.param(CHAT, {**chat, **replay, **usage}, id="chat replayed"),
        pytest.param(COMPLETIONS, {**completion, **usage}, id="completion"),
        pytest.param(COMPLETIONS, {**completion, "return_token_ids": True}, id="with token ids"),
        pytest.param(COMPLETIONS, {**completion, "stop": "#", **usage}, id="completion replayed"),
    ]


@pytest.mark.parametrize(("path", "body"), bodies())
async def test_the_client_sees_one_stream(
    first: httpx.AsyncClient, second: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    preparation = prepared(path, body)
    whole = await upstream(first, preparation)
    expected = read(recorder_of(preparation).feed(whole))
    assert len(expected.text.split()) == 6
    assert bool(expected.token_ids) is ("return_token_ids" in body)
    for cut in cuts_of(whole):
        recorder = recorder_of(preparation)
        relayed = recorder.feed(whole[:cut])
        rest, resume = await resumed(second, preparation, recorder, piece=37)
        told = read(relayed + rest)
        assert resume.error is None
        assert resume.finished
        assert told.comparable() == expected.comparable(), cut
        assert (told.ids, told.objects) == (expected.ids, expected.objects)
        assert len(told.created) == 1


@pytest.mark.parametrize("stop", [None, "#"], ids=["continued", "replayed"])
async def test_a_second_death(
    first: httpx.AsyncClient, second: httpx.AsyncClient, stop: str | None
) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 6, "temperature": 0, "stop": stop}
    preparation = prepared(CHAT, {**body, "stream_options": {"include_usage": True}})
    whole = await upstream(first, preparation)
    expected = read(recorder_of(preparation).feed(whole))
    cuts = cuts_of(whole)
    for cut in cuts[2:8:2]:
        for later in range(0, len(whole) - cut, 97):
            recorder = recorder_of(preparation)
            out = recorder.feed(whole[:cut])
            more, _ = await resumed(second, preparation, recorder, cut=later)
            rest, resume = await resumed(first, preparation, recorder)
            assert resume.error is None
            assert read(out + more + rest).comparable() == expected.comparable(), (cut, later)


async def test_other_words_end_the_stream(first: httpx.AsyncClient) -> None:
    body = {"model": "fake", "prompt": "Say.", "max_tokens": 6, "temperature": 0, "stop": "#"}
    preparation = prepared(COMPLETIONS, body)
    recorder = recorder_of(preparation)
    whole = await upstream(first, preparation)
    recorder.feed(whole[: cuts_of(whole)[4]])
    config = FakeEngineConfig(cost=CostModel(ttft_s=0.0, itl_s=0.0), seed=1)
    app = create_app(FakeWorker(FakeWorkerSettings(engine=config)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://worker"
    ) as other:
        rest, resume = await resumed(other, preparation, recorder)
    assert rest == b""
    assert resume.error is not None
    assert "something else" in resume.error


async def test_a_worker_without_token_ids_replays(
    first: httpx.AsyncClient, second: httpx.AsyncClient
) -> None:
    """As vLLM before 0.10, which ignores the field."""
    body = {"model": "fake", "prompt": "Say.", "max_tokens": 6, "temperature": 0}
    preparation = prepared(COMPLETIONS, body, engine=EngineKind.VLLM)
    plain = preparation._replace(
        body=preparation.body.replace(b'"return_token_ids":true', b'"a":1')
    )
    whole = await upstream(first, plain)
    recorder = recorder_of(preparation)
    relayed = recorder.feed(whole[: cuts_of(whole)[4]])
    rest, resume = await resumed(second, preparation, recorder, engine=EngineKind.VLLM)
    assert resume.method == "replay"
    assert read(relayed + rest).comparable() == read(whole).comparable()
