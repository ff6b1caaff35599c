"""Which calls a resume makes, and when it gives up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.router.core.types import EngineKind
from shoal.router.failover.preparation import Preparation
from shoal.router.failover.resume import Resume
from tests.router.failover.cutting import CHAT, COMPLETIONS, prepared, read, recorder_of

SHOAL, VLLM, SGLANG = EngineKind.SHOAL, EngineKind.VLLM, EngineKind.SGLANG
HI = [{"role": "user", "content": "hi"}]
PROMPT = [7, 8, 9]


def told(text: str, token_ids: list[int], **more: Any) -> bytes:
    """A chat that has begun: the role, then one chunk."""
    head = {"id": "one", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    first = {**head, "choices": [role], "prompt_token_ids": PROMPT}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
    second = {**head, "choices": [{**choice, "token_ids": token_ids}]}
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in (first, second))


def chat(**fields: Any) -> Preparation:
    engine = fields.pop("engine", SHOAL)
    mode = fields.pop("mode", "exact")
    body = {"model": "m", "messages": HI, "max_tokens": 10, "temperature": 0, **fields}
    return prepared(CHAT, body, engine=engine, mode=mode)


def resume(
    preparation: Preparation, stream: bytes, *, engine: EngineKind | None = None
) -> tuple[Resume, bytes]:
    recorder = recorder_of(preparation)
    out = recorder.feed(stream)
    made = Resume(preparation, recorder, engine=engine or preparation.engine)
    return made, out + made.take()


def next_body(made: Resume) -> dict[str, Any]:
    call = made.next_call()
    assert call is not None
    body: dict[str, Any] = msgspec.json.decode(call.body)
    return body


def answer(made: Resume, **body: Any) -> None:
    made.answer(200, msgspec.json.encode(body))


def test_a_continuation_keeps_the_rules_of_the_request() -> None:
    preparation = chat(
        temperature=0.5, seed=3, top_p=0.9, min_tokens=4, logit_bias={"5": 1.5}, priority=2,
        cache_salt="s", user="u", stop_token_ids=[1], ignore_eos=True,
        stream_options={"include_usage": True}, max_completion_tokens=8, max_tokens=99,
    )  # fmt: skip
    made, _ = resume(preparation, told("ab", [1, 2]))
    assert made.method == "continue"
    call = made.next_call()
    assert call is not None
    assert (call.path, call.streams) == ("/detokenize", False)
    assert next_body(made) == {"model": "m", "tokens": [1, 2]}
    answer(made, prompt="ab")
    call = made.next_call()
    assert call is not None
    assert (call.method, call.path, call.streams) == ("POST", COMPLETIONS, True)
    assert next_body(made) == {
        "model": "m", "prompt": [7, 8, 9, 1, 2], "max_tokens": 6, "stream": True,
        "return_token_ids": True, "temperature": 0.5, "seed": 3, "top_p": 0.9, "min_tokens": 2,
        "logit_bias": {"5": 1.5}, "priority": 2, "cache_salt": "s", "user": "u",
        "stop_token_ids": [1], "ignore_eos": True, "stream_options": {"include_usage": True},
        "shoal_output_offset": 2,
    }  # fmt: skip


def test_vllm_is_not_told_of_the_offset() -> None:
    made, _ = resume(chat(engine=VLLM), told("ab", [1, 2]))
    answer(made, prompt="ab")
    assert "shoal_output_offset" not in next_body(made)


def test_a_chat_without_a_limit_asks_for_the_context() -> None:
    made, _ = resume(chat(max_tokens=None), told("ab", [1, 2]))
    answer(made, prompt="ab")
    call = made.next_call()
    assert call is not None
    assert call.path == "/tokenize"
    answer(made, count=1, max_model_len=100, tokens=[5])
    assert next_body(made)["max_tokens"] == 100 - 3 - 2


def test_held_back_text_is_told_at_once() -> None:
    made, _ = resume(chat(), told("a", [1, 2]))
    answer(made, prompt="ab")
    assert read(made.take()).text == "b"
    assert made.take() == b""


def test_an_answer_of_full_length_needs_no_worker_but_for_its_text() -> None:
    preparation = chat(max_tokens=2, stream_options={"include_usage": True})
    made, out = resume(preparation, told("ab", [1, 2]))
    answer(made, prompt="ab")
    stream = read(out + made.take())
    assert made.next_call() is None
    assert made.finished
    assert (stream.text, stream.finish_reasons, stream.num_done) == ("ab", ["length"], 1)
    assert stream.usages == [{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}]


@pytest.mark.parametrize("with_usage", [False, True])
def test_an_answer_that_was_told_to_its_end_needs_no_worker(with_usage: bool) -> None:
    preparation = chat(stream_options={"include_usage": with_usage})
    made, out = resume(preparation, told("ab", [1, 2], finish_reason="stop"))
    assert made.finished
    assert made.next_call() is None
    stream = read(out)
    assert (stream.finish_reasons, stream.num_done) == (["stop"], 1)
    assert len(stream.usages) == with_usage


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"{}"), (200, b"nonsense"), (200, b'{"text":"ab"}'), (200, b"[]")]
)
def test_a_worker_that_cannot_detokenize_replays(status: int, body: bytes) -> None:
    made, _ = resume(chat(), told("ab", [1, 2]))
    made.answer(status, body)
    assert made.method == "replay"
    call = made.next_call()
    assert call is not None
    assert (call.path, call.streams) == (CHAT, True)


def test_a_worker_in_trouble_is_left() -> None:
    made, _ = resume(chat(), told("ab", [1, 2]))
    made.answer(503, b"{}")
    assert made.failed is not None
    assert made.error is None
    assert made.next_call() is None


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
    ],
)
def test_more_than_text_is_replayed(delta: dict[str, Any]) -> None:
    made, _ = resume(chat(), told("", [1, 2], delta=delta))
    assert made.method == "replay"


def test_pictures_are_replayed() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:..."}}
    made, _ = resume(chat(messages=[{"role": "user", "content": [picture]}]), told("ab", [1, 2]))
    assert made.method == "replay"


def test_text_that_is_not_of_the_tokens_is_replayed() -> None:
    made, _ = resume(chat(), told("ab", [1, 2]))
    answer(made, prompt="<|x|>ab")
    answer(made, prompt="789")
    answer(made, prompt="789<|x|>ab")
    assert made.method == "replay"


def test_without_a_seed_there_is_no_replay() -> None:
    made, _ = resume(chat(temperature=1, mode="any"), told("ab", [1, 2]))
    assert made.method == "continue"
    made.answer(404, b"{}")
    assert made.error is not None
    assert "without a seed" in made.error
    assert made.next_call() is None


@pytest.mark.parametrize(
    ("fields", "engine", "word"),
    [
        ({"n": 2}, SHOAL, "several"),
        ({"temperature": 1}, SHOAL, "seed"),
        ({}, VLLM, "not resumed on vllm"),
        ({"mode": "any", "temperature": 1}, SGLANG, "seed"),
    ],
)
def test_what_cannot_be_resumed_says_why(
    fields: dict[str, Any], engine: EngineKind, word: str
) -> None:
    made, _ = resume(chat(**fields), told("ab", [1, 2]), engine=engine)
    assert made.error is not None
    assert word in made.error
    assert made.next_call() is None


def test_any_mode_crosses_engines() -> None:
    made, _ = resume(chat(mode="any"), told("ab", [1, 2]), engine=VLLM)
    assert made.method == "continue"
    made, _ = resume(chat(mode="any"), told("ab", [1, 2]), engine=SGLANG)
    assert made.method == "replay"


def test_a_stream_that_was_not_kept_cannot_go_on() -> None:
    preparation = chat()
    recorder = recorder_of(preparation, max_recorded_bytes=10)
    recorder.feed(told("ab" * 20, [1, 2]))
    recorder.fold()
    assert (
        Resume(preparation, recorder, engine=SHOAL).error == "the stream is too long to be resumed"
    )


def test_a_failure_the_worker_told_is_forgotten_by_the_next() -> None:
    preparation = chat()
    recorder = recorder_of(preparation)
    recorder.feed(told("ab", [1, 2]) + b'data: {"error":{"message":"x","code":500}}\n\n')
    assert recorder.failure is not None
    assert Resume(preparation, recorder, engine=SHOAL).error is None
    assert recorder.failure is None
