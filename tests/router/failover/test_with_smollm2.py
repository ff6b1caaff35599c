"""Every cut of a stream of one real worker, resumed on another: the same text to the last byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.server.worker import Worker
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

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = [{"role": "user", "content": "What is the capital of Japan?"}]
PARTY = "Emoji for a party: 🎉🎊🥳🎉🎊🥳🎉🎊🥳🎉"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(smollm2: ModelFiles) -> AsyncIterator[list[httpx.AsyncClient]]:
    config = EngineConfig(
        model="smollm2", served_model_name="smollm2", max_model_len=256, num_threads=1
    )
    made = [
        Worker(AsyncEngine(config, resolve=lambda model, *, progress: smollm2)) for _ in range(2)
    ]
    try:
        yield [(await worker.ready()).client for worker in made]
    finally:
        await asyncio.gather(*(worker.close() for worker in made))


def bodies() -> list[Any]:
    chat: dict[str, Any] = {"model": "smollm2", "messages": ASK, "max_tokens": 12}
    party: dict[str, Any] = {"model": "smollm2", "prompt": PARTY, "max_tokens": 14}
    usage = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    seeded = {"temperature": 1.3, "seed": 11, "presence_penalty": 0.5, "min_tokens": 10}
    return [
        pytest.param(CHAT, {**chat, **usage, "temperature": 0}, id="greedy chat"),
        pytest.param(CHAT, {**chat, **usage, **seeded}, id="seeded chat"),
        pytest.param(COMPLETIONS, {**party, **usage, "top_k": 1}, id="greedy emoji"),
        pytest.param(
            COMPLETIONS,
            {**party, **usage, "temperature": 1.0, "seed": 3, "return_token_ids": True},
            id="seeded emoji with token ids",
        ),
    ]


@pytest.mark.parametrize(("path", "body"), bodies())
async def test_the_client_sees_one_stream(
    workers: list[httpx.AsyncClient], path: str, body: dict[str, Any]
) -> None:
    first, second = workers
    preparation = prepared(path, body)
    assert preparation.method == "continue"
    whole = await upstream(first, preparation)
    expected = read(recorder_of(preparation).feed(whole))
    for cut in cuts_of(whole)[::2]:
        recorder = recorder_of(preparation)
        relayed = recorder.feed(whole[:cut])
        rest, resume = await resumed(second, preparation, recorder)
        assert (resume.error, resume.finished) == (None, True)
        told = read(relayed + rest)
        assert told.comparable() == expected.comparable(), cut
        assert (told.ids, told.objects) == (expected.ids, expected.objects)
