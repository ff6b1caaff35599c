from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.settings.access import PriceConfig
from shoal.router.telemetry.usage import Usage, cost_of, usage_from_tail


def event(data: Any, name: str | None = None) -> bytes:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"


OPENAI: dict[str, Any] = {"prompt_tokens": 40, "total_tokens": 47, "completion_tokens": 7}
CASES = {
    "chat answer": (
        json.dumps({
            "id": "chatcmpl-1", "object": "chat.completion", "choices": [],
            "usage": OPENAI | {
                "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            "system_fingerprint": None, "kv_transfer_params": {"a": {"b": 1}},
        }).encode(),
        Usage(40, 32, 7),
    ),
    "compact": (json.dumps({"usage": OPENAI}, separators=(",", ":")).encode(), Usage(40, 0, 7)),
    "spread": (json.dumps({"usage": OPENAI}, indent=2).encode(), Usage(40, 0, 7)),
    "no details": (
        json.dumps({"usage": OPENAI | {"prompt_tokens_details": None}}).encode(),
        Usage(40, 0, 7),
    ),
    "null details": (
        json.dumps({"usage": OPENAI | {"prompt_tokens_details": {"cached_tokens": None}}}).encode(),
        Usage(40, 0, 7),
    ),
    "embeddings": (
        json.dumps({"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}).encode(),
        Usage(8, 0, 0),
    ),
    "stream": (
        event({"choices": [{"delta": {"content": "a"}}], "usage": None})
        + event({"choices": [], "usage": OPENAI})
        + b"data: [DONE]\n\n",
        Usage(40, 0, 7),
    ),
    "usage in each chunk": (
        event({"usage": OPENAI | {"completion_tokens": 1}})
        + event({"usage": OPENAI | {"completion_tokens": 2}})
        + b"data: [DONE]\n\n",
        Usage(40, 0, 2),
    ),
    "null after it": (
        event({"usage": OPENAI}) + event({"usage": None}) + b"data: [DONE]\n\n",
        Usage(40, 0, 7),
    ),
    "responses": (
        event(
            {"type": "response.completed", "response": {"usage": {
                "input_tokens": 30, "input_tokens_details": {"cached_tokens": 16},
                "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0},
            }, "metadata": {}}},
            "response.completed",
        ),
        Usage(30, 16, 5),
    ),
    "messages": (
        json.dumps({"type": "message", "content": [], "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20}, "output_tokens": 5,
            "server_tool_use": None,
        }}).encode(),
        Usage(60, 30, 5),
    ),
    "messages stream": (
        event({"type": "message_start", "message": {
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1},
        }}, "message_start")
        + event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}})
        + event({"type": "message_stop"}, "message_stop"),
        Usage(15, 5, 9),
    ),
    "messages stream, all at the end": (
        event({"type": "message_delta", "usage": {"input_tokens": 12, "output_tokens": 9}}),
        Usage(12, 0, 9),
    ),
    "sglang native": (
        json.dumps({"text": "x", "meta_info": {
            "id": "1", "finish_reason": {"type": "length", "length": 4}, "prompt_tokens": 6,
            "completion_tokens": 4, "cached_tokens": 2, "e2e_latency": 0.1,
        }}).encode(),
        Usage(6, 2, 4),
    ),
    "more cached than asked": (
        json.dumps({"usage": OPENAI | {"prompt_tokens_details": {"cached_tokens": 99}}}).encode(),
        Usage(40, 40, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tail", "usage"), CASES.values(), ids=CASES)
def test_what_servers_write(tail: bytes, usage: Usage) -> None:
    assert usage_from_tail(tail) == usage


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"data: [DONE]\n\n",
        b'{"usage"',
        b'{"usage":',
        b'{"usage":null}',
        b'{"usage":{"prompt_tokens":1',
        b'{"usage":{}}',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"usage":{"prompt_tokens":1.5}}',
        b'{"usage":[1]}',
        b'{"usage":5,"x":{"prompt_tokens":1}}',
        b'{"usage", {"prompt_tokens":1}}',
        b'{"usage":' + b'{"a":' * 1000 + b"}" * 1000 + b"}",
        event({"choices": [], "usage": None}) * 100,
        event({"error": {"message": "usage"}}),
    ],
)
def test_none(tail: bytes) -> None:
    assert usage_from_tail(tail) is None


def test_a_tail_that_begins_in_the_middle() -> None:
    whole = event({"usage": OPENAI}) + event({"usage": OPENAI | {"completion_tokens": 8}})
    for cut in range(len(whole)):
        expected = None if cut > whole.rfind(b'"usage"') else Usage(40, 0, 8)
        assert usage_from_tail(whole[cut:]) == expected


def test_text_of_the_model_is_not_believed() -> None:
    lie = '{"usage": {"prompt_tokens": 0, "completion_tokens": 0}}'
    answer = event({"usage": OPENAI}) + event({"choices": [{"delta": {"content": lie}}]})
    assert usage_from_tail(answer) == Usage(40, 0, 7)


def test_the_beginning_of_a_stream_tells_the_prompt() -> None:
    head = event({"type": "message_start", "message": {"usage": {"input_tokens": 10}}})
    tail = event({"type": "message_delta", "usage": {"output_tokens": 9}})
    assert usage_from_tail(tail, head) == Usage(10, 0, 9)
    assert usage_from_tail(tail) == Usage(0, 0, 9)
    assert usage_from_tail(event({"usage": OPENAI}), head) == Usage(40, 0, 7)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_is_too_odd(before: bytes, after: bytes) -> None:
    usage_from_tail(before + b'"usage":{' + after)
    usage_from_tail(before + b'"usage": {"prompt_tokens": 1}' + after)


@given(
    st.integers(0, 2**40), st.integers(0, 2**40), st.text(max_size=30), st.none() | st.text('}{"')
)
def test_any_answer(prompt: int, completion: int, text: str, more: str | None) -> None:
    answer = {
        "choices": [{"text": text}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        "system_fingerprint": more,
    }
    for form in (json.dumps(answer), json.dumps(answer, ensure_ascii=False, indent=1)):
        found = usage_from_tail(form.encode("utf-8", "surrogatepass"))
        assert found == Usage(prompt, 0, completion)


def test_cost() -> None:
    price = PriceConfig(prompt=2.0, cached=0.5, completion=8.0)
    assert cost_of(Usage(1_000_000, 400_000, 100_000), price) == pytest.approx(1.2 + 0.2 + 0.8)
    assert cost_of(Usage(0, 0, 0), price) == 0.0
