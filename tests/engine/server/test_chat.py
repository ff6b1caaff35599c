"""`/v1/chat/completions` in process, against the fake engine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.engine.server.events import events_of
from tests.engine.server.fake_engine import FakeEngine

HI = [{"role": "user", "content": "hi"}]


async def chat(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": "fake", "messages": HI, **body})


def prompt_of(engine: FakeEngine) -> str:
    return bytes(engine.prompts[-1]).decode()


async def test_answer_has_the_shape_of_openai(client: httpx.AsyncClient) -> None:
    answer = (await chat(client, max_tokens=5)).json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 1_700_000_000
    usage = answer.pop("usage")
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}
    assert usage["completion_tokens"] == 5
    assert answer == {
        "object": "chat.completion",
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
    }


async def test_the_template_writes_the_prompt(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": parts}]
    assert (await chat(client, messages=messages, max_tokens=1)).status_code == 200
    assert prompt_of(engine) == "system: be kind<|end|>\nuser: one\ntwo<|end|>\nassistant: "


async def test_max_tokens_defaults_to_the_rest_of_the_context(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    assert (await chat(client)).status_code == 200
    assert engine.params[0].max_tokens == 1000 - len(engine.prompts[0])


async def test_max_completion_tokens_beats_max_tokens(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await chat(client, max_completion_tokens=3, max_tokens=7)
    assert engine.params[0].max_tokens == 3


async def test_stream_begins_with_the_role_and_ends_with_the_reason(
    client: httpx.AsyncClient,
) -> None:
    *chunks, usage, done = events_of(
        await chat(client, max_tokens=5, stream=True, stream_options={"include_usage": True})
    )
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas) == "Hello"
    assert all("role" not in delta for delta in deltas[1:])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "length"]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)


async def test_every_choice_of_a_stream_gets_its_role(client: httpx.AsyncClient) -> None:
    *chunks, _ = events_of(await chat(client, max_tokens=5, n=3, stream=True))
    roles = [
        chunk["choices"][0]["index"] for chunk in chunks if "role" in chunk["choices"][0]["delta"]
    ]
    assert sorted(roles) == [0, 1, 2]


async def test_logprobs_with_bytes(client: httpx.AsyncClient) -> None:
    answer = (await chat(client, max_tokens=9, logprobs=True, top_logprobs=2)).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == 9
    assert content[0] == {
        "token": "H",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [
            {"token": "H", "logprob": -0.5, "bytes": [72]},
            {"token": "I", "logprob": -1.5, "bytes": [73]},
        ],
    }
    assert content[8]["bytes"] == [0xC3]  # the first half of ö
    assert content[8]["token"] == "\ufffd"


async def test_logprobs_in_a_stream(client: httpx.AsyncClient) -> None:
    *chunks, _ = events_of(await chat(client, max_tokens=9, logprobs=True, stream=True))
    tokens = [
        entry["token"]
        for chunk in chunks
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert tokens == [*"Hello, w", "\ufffd"]


async def test_final_message_can_be_continued(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    messages = [*HI, {"role": "assistant", "content": "Well, "}]
    response = await chat(client, messages=messages, continue_final_message=True, max_tokens=1)
    assert response.status_code == 200
    assert prompt_of(engine).endswith("assistant: Well,")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"chat_template": "x"}, "chat_template"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 99}, "logprobs"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens"),
        ({"add_generation_prompt": True, "continue_final_message": True},
         "continue_final_message"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, engine: FakeEngine, body: dict[str, Any], param: str
) -> None:
    response = await chat(client, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert engine.params == []


async def test_what_changes_nothing_is_tolerated(client: httpx.AsyncClient) -> None:
    response = await chat(
        client,
        max_tokens=1,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        modalities=["text"],
        user="me",
        store=False,
        metadata={"a": "b"},
        parallel_tool_calls=True,
        service_tier="auto",
    )
    assert response.status_code == 200


async def test_missing_messages_are_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json={"model": "fake"})
    assert response.status_code == 400
    assert "messages" in response.json()["error"]["message"]


async def test_token_ids_on_demand(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = (await chat(client, max_tokens=3, return_token_ids=True)).json()
    assert answer["prompt_token_ids"] == engine.prompts[-1]
    assert answer["choices"][0]["token_ids"] == list(b"Hel")


async def test_streamed_token_ids(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    response = await chat(client, max_tokens=9, stream=True, return_token_ids=True)
    first, *rest = events_of(response)[:-1]
    assert first["prompt_token_ids"] == engine.prompts[-1]
    assert "token_ids" not in first["choices"][0]
    assert [event["choices"][0]["token_ids"] for event in rest] == [[i] for i in b"Hello, w\xc3"]
    assert all("prompt_token_ids" not in event for event in rest)
