"""The clients people use, over a real socket."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import openai
import pytest

from tests.engine.server.conftest import LiveServer

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def sync_client(live_server: LiveServer) -> Any:
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_chat(sync_client: openai.OpenAI) -> None:
    answer = sync_client.chat.completions.create(model="fake", messages=HI, max_tokens=5)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_openai_completion(sync_client: openai.OpenAI) -> None:
    answer = sync_client.completions.create(model="fake", prompt="hi", max_tokens=5, logprobs=1)
    assert answer.choices[0].text == "Hello"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == list("Hello")


def test_openai_models(sync_client: openai.OpenAI) -> None:
    assert [model.id for model in sync_client.models.list()] == ["fake"]
    assert sync_client.models.retrieve("fake").created == 1_700_000_000


def test_openai_stream(sync_client: openai.OpenAI) -> None:
    stream = sync_client.chat.completions.create(
        model="fake",
        messages=HI,
        max_tokens=14,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "Hello, wörld!"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 14


def test_openai_errors_have_their_classes(sync_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sync_client.chat.completions.create(model="other", messages=HI)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        sync_client.chat.completions.create(model="fake", messages=HI, temperature=-1)
    assert wrong.value.param == "temperature"


async def test_openai_async_streams_side_by_side(live_server: LiveServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key="none") as client:

        async def one() -> str:
            stream = await client.chat.completions.create(
                model="fake", messages=HI, max_tokens=14, stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        assert await asyncio.gather(*(one() for _ in range(20))) == ["Hello, wörld!"] * 20


LITELLM = """
import sys
import litellm

def ask(**options):
    return litellm.completion(
        model="openai/fake",
        messages=[{"role": "user", "content": "hi"}],
        api_base=sys.argv[1],
        api_key="none",
        max_tokens=5,
        **options,
    )

print(ask().choices[0].message.content)
print("".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)))
"""


def test_litellm(live_server: LiveServer) -> None:
    """In a process of its own: it leaves an event loop open, and warnings of its own types."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it asks the internet
    result = subprocess.run(
        [sys.executable, "-c", LITELLM, f"{live_server.url}/v1"],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
    )
    assert (result.stdout.split(), result.returncode) == (["Hello", "Hello"], 0), result.stderr
