"""Routes of a fake worker, without sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shoal.benchmarks.fake_worker.cost_model import CostModel
from shoal.benchmarks.fake_worker.engine import FakeEngineConfig
from shoal.benchmarks.fake_worker.server import create_app
from shoal.benchmarks.fake_worker.settings import FakeWorkerSettings
from shoal.benchmarks.fake_worker.worker import FakeWorker
from shoal.metrics import parse_prometheus_text

FAST = CostModel(ttft_s=0.001, itl_s=0.0005)
PROMPT = " ".join(["able", "about", "above", "across"] * 12)


def make_client(*, engine: dict[str, Any] | None = None, **fields: Any) -> httpx.AsyncClient:
    config = FakeEngineConfig(**{"cost": FAST, **(engine or {})})
    worker = FakeWorker(FakeWorkerSettings(engine=config, **fields))
    transport = httpx.ASGITransport(create_app(worker))
    return httpx.AsyncClient(transport=transport, base_url="http://worker")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with make_client() as made:
        yield made


def events(response: httpx.Response) -> list[Any]:
    """Chunks of a stream, without the mark of its end."""
    assert response.headers["content-type"].startswith("text/event-stream")
    parts = response.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


async def test_a_whole_completion(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "prompt": "able about", "max_tokens": 5}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    assert len(choice["text"].split()) == 5
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["usage"]["total_tokens"] == 7


async def test_streamed_and_whole_say_the_same(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 6}
    whole = (await client.post("/v1/completions", json=body)).json()["choices"][0]["text"]
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, usage = events(await client.post("/v1/completions", json=body))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
    assert len(chunks) == 6
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6


async def test_a_chat(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 3,
        "stream": True,
    }  # fmt: skip
    first, *words, last = events(await client.post("/v1/chat/completions", json=body))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(words) == 3
    assert last["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "length",
    }  # fmt: skip
    body["stream"] = False
    whole = (await client.post("/v1/chat/completions", json=body)).json()
    said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in words)
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": said}


async def test_a_prompt_that_was_here_before_is_cached(client: httpx.AsyncClient) -> None:
    cached = []
    for _ in range(2):
        body = {"prompt": PROMPT, "max_tokens": 1}
        usage = (await client.post("/v1/completions", json=body)).json()["usage"]
        cached.append(usage["prompt_tokens_details"]["cached_tokens"])
    assert usage["prompt_tokens"] == 48
    assert cached == [0, 32]


async def test_it_counts_as_it_says(client: httpx.AsyncClient) -> None:
    tokens = (await client.post("/tokenize", json={"prompt": PROMPT})).json()
    assert tokens["count"] == len(tokens["tokens"]) == 48
    back = await client.post("/detokenize", json={"tokens": tokens["tokens"][1:]})
    assert back.json()["prompt"] == PROMPT.removeprefix("able")
    messages = {"messages": [{"role": "user", "content": PROMPT}]}
    chat = (await client.post("/tokenize", json=messages)).json()["count"]
    answer = await client.post("/v1/chat/completions", json={**messages, "max_tokens": 1})
    assert answer.json()["usage"]["prompt_tokens"] == chat > 48


async def test_metrics_have_vllms_names(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 4})
    samples: dict[str, float] = {}
    for sample in parse_prometheus_text((await client.get("/metrics")).text):
        if sample.labels.get("model_name") == "fake":
            samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
    assert samples["vllm:generation_tokens_total"] == 12
    assert samples["vllm:prompt_tokens_total"] == 144
    assert samples["vllm:prefix_cache_hits_total"] == 64
    assert samples["vllm:request_success_total"] == 3
    assert samples["vllm:time_to_first_token_seconds_count"] == 3
    assert samples["vllm:num_requests_running"] == 0
    assert samples["vllm:cache_config_info"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"max_tokens": 3}', 400, "invalid_type"),
        (b'{"prompt": "a", "model": "gpt"}', 404, "model_not_found"),
        (b'{"prompt": ""}', 400, None),
        (b'{"prompt": "a", "max_tokens": 0}', 400, None),
        (b'{"prompt": "a", "max_tokens": 99999}', 400, "context_length_exceeded"),
        (b'{"prompt": ["a", "b"]}', 400, None),
        (b'{"prompt": "a", "n": 2}', 400, None),
    ],
)
async def test_bad_requests(
    client: httpx.AsyncClient, body: bytes, status: int, code: str | None
) -> None:
    response = await client.post("/v1/completions", content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"]
    assert error["code"] == code


async def test_routes_that_are_not_there(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nope")).json()["error"]["code"] == "not_found"
    assert (await client.get("/v1/completions")).status_code == 405


async def test_bodies_are_bounded() -> None:
    async with make_client(max_body_bytes=100) as client:
        response = await client.post("/v1/completions", json={"prompt": "a" * 200})
    assert response.status_code == 413


async def test_a_key_is_asked_for() -> None:
    async with make_client(api_keys=("sesame",)) as client:
        body = {"prompt": "a", "max_tokens": 1}
        assert (await client.post("/v1/completions", json=body)).status_code == 401
        assert (await client.get("/health")).status_code == 200
        headers = {"Authorization": "Bearer sesame"}
        good = await client.post("/v1/completions", json=body, headers=headers)
    assert good.status_code == 200


async def test_a_slow_start() -> None:
    async with make_client(startup_delay_s=60.0) as client:
        for path in ("/health", "/ready", "/v1/models"):
            response = await client.get(path)
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 60
        assert (await client.post("/v1/completions", json={"prompt": "a"})).status_code == 503


async def test_what_it_is(client: httpx.AsyncClient) -> None:
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert (card["id"], card["max_model_len"]) == ("fake", 32_768)
    assert (await client.get("/version")).json()["version"]
    assert (await client.get("/kv_event_sources")).json()["enable_kv_cache_events"] is False


async def test_a_request_keeps_its_name(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a", "max_tokens": 1}
    named = await client.post("/v1/completions", json=body, headers={"X-Request-Id": "r7"})
    assert named.headers["x-request-id"] == "r7"
    assert named.json()["id"] == "cmpl-r7"


async def test_faults_can_be_switched_while_it_runs(client: httpx.AsyncClient) -> None:
    assert (await client.get("/faults")).json() == {"faults": [], "counts": {}}
    switches = {"faults": [{"kind": "overload", "probability": 1.0, "after_tokens": 0}]}
    assert (await client.post("/faults", json=switches)).status_code == 200
    refused = await client.post("/v1/completions", json={"prompt": "a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await client.get("/faults")).json() == {**switches, "counts": {"overload": 1}}
    bad = {"faults": [{"kind": "overload", "probability": 2}]}
    assert (await client.post("/faults", json=bad)).status_code == 400
    await client.post("/faults", json={"faults": []})
    good = await client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    assert good.status_code == 200


async def test_a_full_queue_answers_429() -> None:
    engine = {"max_num_seqs": 1, "max_num_waiting": 1, "cost": CostModel(ttft_s=30.0)}
    config = FakeEngineConfig(**engine)
    worker = FakeWorker(FakeWorkerSettings(engine=config))
    for _ in range(2):
        worker.submit("r", None, [1], 1)
    transport = httpx.ASGITransport(create_app(worker))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        response = await client.post("/v1/completions", json={"prompt": "a"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_token_ids_in_the_places_vllm_has_them(client: httpx.AsyncClient, path: str) -> None:
    is_chat = "chat" in path
    body: dict[str, Any] = {"max_tokens": 4, "return_token_ids": True}
    body |= {"messages": [{"role": "user", "content": "hi"}]} if is_chat else {"prompt": [7, 8]}
    whole = (await client.post(path, json=body)).json()
    told = whole["choices"][0]["token_ids"]
    assert len(told) == 4
    prompt = whole["prompt_token_ids"] if is_chat else whole["choices"][0]["prompt_token_ids"]
    chunks = events(await client.post(path, json={**body, "stream": True}))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert (chunks if is_chat else choices)[0]["prompt_token_ids"] == prompt
    assert sum("prompt_token_ids" in holder for holder in chunks + choices) == 1
    assert [token for choice in choices for token in choice.get("token_ids", [])] == told


async def test_it_goes_on_where_another_stopped(client: httpx.AsyncClient) -> None:
    body = {"prompt": "able about", "max_tokens": 6, "return_token_ids": True}
    whole = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    prompt = whole["prompt_token_ids"] + whole["token_ids"][:2]
    rest = await client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4})
    text = (await client.post("/detokenize", json={"tokens": whole["token_ids"][:2]})).json()
    assert text["prompt"] + rest.json()["choices"][0]["text"] == whole["text"]
