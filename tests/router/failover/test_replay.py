"""The second answer less the first: tools, reasoning, log-probabilities, other chunk borders."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from shoal.router.core.types import EngineKind
from shoal.router.failover.resume import Resume
from tests.router.failover.cutting import CHAT, prepared, recorder_of

BODY = {"model": "m", "messages": [], "temperature": 0, "tools": [{"type": "function"}]}


def chunk(delta: dict[str, Any] | None, *, id: str = "first", **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    usage = more.pop("usage", None)
    for choice in choices:
        choice.update(more)
    body: dict[str, Any] = {"id": id, "object": "chat.completion.chunk", "created": 5, "model": "m"}
    body["choices"] = choices
    if usage:
        body["usage"] = usage
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def logprobs(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -0.1, "bytes": []} for token in tokens]}


def call(index: int, arguments: str, name: str | None = None, id: str = "x") -> dict[str, Any]:
    head = {} if name is None else {"id": id, "type": "function"}
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def answer(id: str, call_id: str) -> list[bytes]:
    """Reasoning, text, two calls, the end."""
    return [
        chunk({"role": "assistant", "content": ""}, id=id),
        chunk({"reasoning": "Hm, "}, id=id),
        chunk({"reasoning": "well."}, id=id),
        chunk({"content": "I'll "}, id=id, logprobs=logprobs("I", "'ll ")),
        chunk({"content": "look."}, id=id, logprobs=logprobs("look", ".")),
        chunk(call(0, "", name="find", id=call_id), id=id),
        chunk(call(0, '{"a":'), id=id),
        chunk(call(0, "1}"), id=id),
        chunk(call(1, "{}", name="stop", id=call_id), id=id),
        chunk({}, id=id, finish_reason="tool_calls"),
        chunk(None, id=id, usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}),
    ]


def merged(events: list[bytes], sizes: tuple[int, ...]) -> list[bytes]:
    """The same text in other chunks: a worker under load joins what waits."""
    out, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(events):
            return out
        group = [msgspec.json.decode(event[6:-2]) for event in events[at : at + size]]
        at += size
        texts = [g["choices"][0]["delta"].get("content") if g["choices"] else None for g in group]
        if size > 1 and all(texts):
            first = group[0]
            first["choices"][0]["delta"]["content"] = "".join(texts)
            entries = [e for g in group for e in g["choices"][0]["logprobs"]["content"]]
            first["choices"][0]["logprobs"] = {"content": entries}
            group = [first]
        out += [b"data: " + msgspec.json.encode(g) + b"\n\n" for g in group]
    raise AssertionError


def fold(stream: bytes) -> dict[str, Any]:
    """All a client can see, chunk borders and random ids aside."""
    seen: dict[str, Any] = {"ids": set(), "roles": [], "text": "", "reasoning": "", "tokens": []}
    seen |= {"calls": {}, "finish": [], "usage": [], "done": stream.count(b"[DONE]")}
    for part in stream.split(b"\n\n")[:-1]:
        if part == b"data: [DONE]":
            continue
        event = msgspec.json.decode(part[6:])
        seen["ids"].add(event["id"])
        if not event["choices"]:
            seen["usage"].append(event["usage"])
            continue
        (choice,) = event["choices"]
        delta = choice["delta"]
        seen["roles"] += [delta["role"]] if "role" in delta else []
        seen["text"] += delta.get("content") or ""
        seen["reasoning"] += delta.get("reasoning") or ""
        seen["tokens"] += [e["token"] for e in (choice.get("logprobs") or {}).get("content", [])]
        for part_of in delta.get("tool_calls", []):
            known = seen["calls"].setdefault(part_of["index"], {"id": [], "name": "", "args": ""})
            known["id"] += [part_of["id"]] if "id" in part_of else []
            known["name"] += part_of["function"].get("name", "")
            known["args"] += part_of["function"].get("arguments", "")
        seen["finish"] += [choice["finish_reason"]] if choice["finish_reason"] else []
    return seen


def replayed(told: list[bytes], second: list[bytes]) -> tuple[bytes, Resume]:
    preparation = prepared(
        CHAT, {**BODY, "stream_options": {"include_usage": True}}, engine=EngineKind.VLLM
    )
    assert preparation.method == "replay"
    recorder = recorder_of(preparation)
    out = recorder.feed(b"".join(told))
    resume = Resume(preparation, recorder, engine=EngineKind.VLLM)
    out += resume.take()
    call_ = resume.next_call()
    assert call_ is not None
    assert (call_.path, call_.body, call_.streams) == (CHAT, preparation.body, True)
    for event in [*second, b"data: [DONE]\n\n"]:
        out += resume.feed(event)
    return out, resume


@pytest.mark.parametrize("sizes", [(1,), (2, 1), (1, 2), (3,)])
@pytest.mark.parametrize("num_told", range(len(answer("", ""))))
def test_every_cut(num_told: int, sizes: tuple[int, ...]) -> None:
    out, resume = replayed(
        answer("first", "call-a")[:num_told], merged(answer("second", "call-b"), sizes)
    )
    assert (resume.error, resume.finished) == (None, True)
    seen = fold(out)
    expected = fold(b"".join(answer("first" if num_told else "second", "")))
    assert seen.pop("done") == 1
    assert expected.pop("done") == 0
    for known in [*seen["calls"].values(), *expected["calls"].values()]:
        assert len(known.pop("id")) == 1
    assert seen == expected


@pytest.mark.parametrize(
    "other",
    [
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "I'll"}),
         chunk({"content": " go."})],
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "I'll look."},
         finish_reason="stop")],
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "I'll "})],
        [chunk({"role": "assistant", "content": ""}), chunk(call(0, "{}", name="find"))],
    ],
    ids=["other text", "an end too early", "too short", "a call instead"],
)  # fmt: skip
def test_a_different_answer_ends_the_stream(other: list[bytes]) -> None:
    told = [chunk({"role": "assistant", "content": ""}), chunk({"content": "I'll look. Then"})]
    out, resume = replayed(told, other)
    assert out == b"".join(told)
    assert resume.error is not None
    assert not resume.finished


def test_a_second_failure_is_for_another_worker() -> None:
    told = answer("first", "a")[:5]
    failure = b'data: {"error":{"message":"x","type":"InternalServerError","code":500}}\n\n'
    out, resume = replayed(told, [*answer("second", "b")[:2], failure])
    assert out == b"".join(told)
    assert resume.failed == "the new worker failed"
    assert resume.error is None
