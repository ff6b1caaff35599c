"""Which method a request gets, by what it asks for, the engine and the mode."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.router.core.types import EngineKind
from tests.router.failover.cutting import CHAT, COMPLETIONS, prepared

SHOAL, VLLM, SGLANG, OPENAI = (
    EngineKind.SHOAL,
    EngineKind.VLLM,
    EngineKind.SGLANG,
    EngineKind.OPENAI,
)
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 0.7, "seed": 5}


def method(engine: EngineKind, mode: Any = "exact", path: str = CHAT, **body: Any) -> str | None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    preparation = prepared(path, body, engine=engine, mode=mode)
    assert (preparation.reason == "") is (preparation.method == "continue")
    return preparation.method


@pytest.mark.parametrize(
    ("sampling", "mode", "expected"),
    [
        # shoal, vllm, sglang, openai
        (GREEDY, "exact", ("continue", "continue", "replay", None)),
        (GREEDY, "any", ("continue", "continue", "replay", "replay")),
        ({"top_k": 1}, "exact", ("continue", "continue", "replay", None)),
        (SEEDED, "exact", ("continue", "replay", None, None)),
        (SEEDED, "any", ("continue", "replay", None, None)),
        ({}, "exact", (None, None, None, None)),
        ({"temperature": 1}, "any", ("continue", "continue", None, None)),
        ({"temperature": 1, "stop": "x"}, "any", (None, None, None, None)),
        (GREEDY, "off", (None, None, None, None)),
    ],
)
def test_by_engine(sampling: dict[str, Any], mode: str, expected: tuple[str | None, ...]) -> None:
    assert tuple(method(e, mode, **sampling) for e in (SHOAL, VLLM, SGLANG, OPENAI)) == expected


@pytest.mark.parametrize(
    ("fields", "shoal", "vllm"),
    [
        ({"stop": ["a"]}, "replay", "replay"),
        ({"stop": []}, "continue", "continue"),
        ({"stop": None}, "continue", "continue"),
        ({"logprobs": True}, "replay", "replay"),
        ({"logprobs": False}, "continue", "continue"),
        ({"tools": [{"type": "function"}]}, "replay", "replay"),
        ({"tools": [{"type": "function"}], "tool_choice": "none"}, "continue", "continue"),
        ({"response_format": {"type": "json_object"}}, "replay", "replay"),
        ({"response_format": {"type": "text"}}, "continue", "continue"),
        ({"presence_penalty": 0.5}, "continue", "replay"),
        ({"repetition_penalty": 1.1}, "continue", "continue"),
        ({"min_tokens": 5}, "continue", "continue"),
        ({"bad_words": ["x"]}, "replay", "replay"),
        ({"structured_outputs": {"regex": "a"}}, "replay", "replay"),
        ({"include_reasoning": False}, "replay", "replay"),
        ({"n": 2}, None, None),
        ({"n": 1}, "continue", "continue"),
        ({"best_of": 2}, None, None),
        ({"echo": True}, None, None),
        ({"prompt_logprobs": 0}, None, None),
        ({"kv_transfer_params": {"a": 1}}, None, None),
        ({"stream": False}, None, None),
    ],
)
def test_by_field(fields: dict[str, Any], shoal: str | None, vllm: str | None) -> None:
    assert method(SHOAL, **GREEDY, **fields) == shoal
    assert method(VLLM, **GREEDY, **fields) == vllm


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", "continue"),
        ([1, 2, 3], "continue"),
        (["hi"], "continue"),
        ([[1, 2]], "continue"),
        (["hi", "there"], None),
        ([[1], [2]], None),
        ([], None),
        ({}, None),
    ],
)
def test_one_prompt_a_stream(prompt: Any, expected: str | None) -> None:
    assert method(SHOAL, path=COMPLETIONS, prompt=prompt, **GREEDY) == expected


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/generate"])
def test_other_routes_are_not_resumed(path: str) -> None:
    assert method(SHOAL, path=path, **GREEDY) is None


@pytest.mark.parametrize(
    ("asked", "body_says", "strip"), [(None, True, True), (False, True, True), (True, True, False)]
)
def test_token_ids_are_asked_for_without_encoding_again(
    asked: bool | None, body_says: bool, strip: bool
) -> None:
    fields = {} if asked is None else {"return_token_ids": asked}
    preparation = prepared(CHAT, {"model": "m", "messages": [], "temperature": 0, **fields})
    assert msgspec.json.decode(preparation.body)["return_token_ids"] is body_says
    assert preparation.strip is strip
    replayed = prepared(CHAT, {"model": "m", "messages": [], "temperature": 0, "stop": "x"})
    assert b"return_token_ids" not in replayed.body
    assert not replayed.strip
