"""SmolLM2 behind the whole server, asked by the `openai` client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.server.worker import Worker

JAPAN: list[Any] = [{"role": "user", "content": "What is the capital of Japan?"}]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(smollm2: ModelFiles) -> AsyncIterator[Worker]:
    # One thread: on a busy machine two wait for each other at every operation.
    config = EngineConfig(
        model="smollm2", served_model_name="smollm2", max_model_len=1024, num_threads=1
    )
    worker = Worker(AsyncEngine(config, resolve=lambda model, *, progress: smollm2))
    try:
        yield await worker.ready()
    finally:
        await worker.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(worker: Worker) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{worker.url}/v1", api_key="none") as client:
        yield client


async def ask(client: openai.AsyncOpenAI, **options: Any) -> Any:
    body = {"model": "smollm2", "messages": JAPAN, "temperature": 0, "max_tokens": 24, **options}
    return await client.chat.completions.create(**body)


async def test_it_knows_tokyo(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client)
    assert answer.choices[0].message.content == "The capital of Japan is Tokyo."
    assert answer.choices[0].finish_reason == "stop"


async def test_streams_side_by_side_say_the_same(client: openai.AsyncOpenAI) -> None:
    async def one() -> str:
        stream = await ask(client, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert set(await asyncio.gather(*(one() for _ in range(8)))) == {
        "The capital of Japan is Tokyo."
    }


async def test_the_second_time_the_prompt_is_cached(client: openai.AsyncOpenAI) -> None:
    for _ in range(2):
        answer = await ask(client, max_tokens=1)
    assert answer.usage.prompt_tokens == 37
    assert answer.usage.prompt_tokens_details.cached_tokens == 32


async def test_seeds_decide_and_choices_differ(client: openai.AsyncOpenAI) -> None:
    async def texts() -> list[str]:
        answer = await ask(client, temperature=1.5, seed=7, n=3, max_tokens=12)
        return [choice.message.content for choice in answer.choices]

    first = await texts()
    assert len(set(first)) == 3
    assert await texts() == first


async def test_stop_strings_are_left_out(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, stop=["is Tok"])
    assert answer.choices[0].message.content == "The capital of Japan "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == "is Tok"


async def test_logprobs_of_greedy_tokens_are_the_best(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in content) == "The capital of Japan is Tokyo.<|im_end|>"
    for entry in content:
        assert entry.token == entry.top_logprobs[0].token
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)


async def test_completion_echoes_its_prompt(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="smollm2",
        prompt="The capital of Japan is",
        max_tokens=2,
        temperature=0,
        echo=True,
        logprobs=0,
    )
    choice = answer.choices[0]
    assert choice.text == "The capital of Japan is Tokyo."
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    logprobs = choice.logprobs.token_logprobs or []
    assert logprobs[0] is None
    assert all(logprob < 0 for logprob in logprobs[1:])


async def test_images_are_refused_by_name(client: openai.AsyncOpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(openai.BadRequestError, match="image_url"):
        await ask(client, messages=[{"role": "user", "content": [image]}])


async def test_tokens_there_and_back(worker: Worker) -> None:
    text = "naïve 日本 🙂 <|im_start|>"
    tokens = (await worker.client.post("/tokenize", json={"prompt": text})).json()["tokens"]
    back = await worker.client.post("/detokenize", json={"tokens": tokens})
    assert back.json() == {"prompt": text}
