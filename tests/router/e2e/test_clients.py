"""The clients that people use, through a router with keys."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.router.e2e.processes import Nursery
from tests.router.e2e.routers import Router
from tests.router.e2e.test_reload import new_key
from tests.router.e2e.workers import FakeWorker

ASK: list[Any] = [{"role": "user", "content": "Say something."}]
LITELLM_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def key(
    workers: list[FakeWorker], router: Router, nursery: Nursery, tmp_path: Path
) -> Iterator[str]:
    """Of a router that lets nobody else in."""
    keys = tmp_path / "keys.yaml"
    key = new_key(nursery, keys, "client")
    router.configure(workers, {"auth": {"keys_file": str(keys)}})
    yield key
    router.configure(workers)


@pytest.fixture
def client(router: Router, key: str) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False, verify=False)
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key=key, http_client=http) as client:
        yield client


def test_openai(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["fake"]
    chat = client.chat.completions.create(model="fake", messages=ASK, max_tokens=5)
    text = chat.choices[0].message.content
    assert text is not None
    assert len(text.split()) == 5
    assert chat.usage is not None
    assert chat.usage.completion_tokens == 5
    stream = client.chat.completions.create(
        model="fake", messages=ASK, max_tokens=5, stream=True, temperature=0,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    completion = client.completions.create(model="fake", prompt="Once", max_tokens=3)
    assert len(completion.choices[0].text.split()) == 3
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.chat.completions.create(model="other", messages=ASK)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model="fake", messages=ASK)


async def test_openai_async(router: Router, key: str) -> None:
    http = httpx.AsyncClient(trust_env=False, verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{router.url}/v1", api_key=key, http_client=http
    ) as client:

        async def text(number: int) -> str:
            stream = await client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": f"{number}"}], max_tokens=4,
                stream=True,
            )  # fmt: skip
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        texts = await asyncio.gather(*(text(number) for number in range(8)))
    assert [len(text.split()) for text in texts] == [4] * 8


@LITELLM_WARNINGS
def test_litellm(router: Router, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # not from the internet
    import litellm

    where: dict[str, Any] = {
        "model": "openai/fake", "base_url": f"{router.url}/v1", "api_key": key, "messages": ASK,
        "max_tokens": 4,
    }  # fmt: skip
    whole = litellm.completion(**where)
    assert len(whole.choices[0].message.content.split()) == 4
    parts = [
        chunk.choices[0].delta.content or "" for chunk in litellm.completion(**where, stream=True)
    ]
    assert len("".join(parts).split()) == 4
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**{**where, "api_key": "sk-wrong"})


async def test_curl(router: Router, key: str, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl: apt install curl")
    url = f"{router.url}/v1/chat/completions"
    body = json.dumps({"model": "fake", "messages": ASK, "max_tokens": 3, "stream": True})

    async def run(*options: str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            curl, "--silent", "--show-error", "--no-buffer", "--max-time", "20", *options,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode or 0, out

    json_type = ("--header", "Content-Type: application/json")
    bearer = ("--header", f"Authorization: Bearer {key}")
    status, out = await run(url, *json_type, *bearer, "--data", body)
    assert status == 0
    assert out.endswith(b"data: [DONE]\n\n")
    assert out.count(b"data: ") == 1 + 3 + 1 + 1  # role, tokens, reason, end
    # A long body: curl asks whether it may send it.
    long = tmp_path / "long.json"
    long.write_text(
        json.dumps({"model": "fake", "messages": ASK, "max_tokens": 2, "user": "x" * 2_000_000})
    )
    status, out = await run(
        url, *json_type, *bearer, "--header", "Expect: 100-continue", "--data", f"@{long}"
    )
    assert (status, json.loads(out)["usage"]["completion_tokens"]) == (0, 2)
    # Two on one connection, by HTTP/1.0 too.
    status, out = await run(
        "--write-out", "%{http_code} %{num_connects} ", "--output", "/dev/null", *bearer,
        f"{router.url}/v1/models", "--output", "/dev/null", f"{router.url}/v1/models",
    )  # fmt: skip
    assert (status, out.split()) == (0, [b"200", b"1", b"200", b"0"])
    status, out = await run("--http1.0", url, *json_type, *bearer, "--data", body)
    assert status == 0
    assert out.endswith(b"data: [DONE]\n\n")
    status, out = await run(url, *json_type, "--data", body, "--write-out", "%{http_code}")
    assert out.endswith(b"401")
