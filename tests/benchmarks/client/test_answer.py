from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.benchmarks.client.answer import Answer

EVENTS = b"text/event-stream; charset=utf-8"


def event(**chunk: Any) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def choice(**fields: Any) -> bytes:
    return event(choices=[{"index": 0, **fields}])


def stream(*parts: bytes, keep_text: bool = False) -> Answer:
    """An answer whose parts came one second apart."""
    answer = Answer(keep_text=keep_text)
    answer.on_headers(200, EVENTS)
    for now, part in enumerate(parts, 1):
        answer.on_body(part, float(now))
    answer.on_complete()
    return answer


DONE = b"data: [DONE]\n\n"


def test_a_completion() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    answer = stream(
        choice(text="a"), choice(text="b"), choice(text="", finish_reason="length"),
        event(choices=[], usage=usage), DONE, keep_text=True,
    )  # fmt: skip
    assert answer.error is None
    assert (answer.first_s, answer.last_s, answer.num_chunks) == (1.0, 2.0, 2)
    assert list(answer.gaps) == [1.0]
    assert answer.text == "ab"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


def test_the_role_of_a_chat_is_no_token() -> None:
    answer = stream(
        choice(delta={"role": "assistant", "content": ""}),
        choice(delta={"content": "a"}),
        choice(delta={}, finish_reason="stop"),
        DONE,
    )
    assert answer.error is None
    assert (answer.first_s, answer.num_chunks) == (2.0, 1)


def test_a_role_with_a_word_is_a_token() -> None:
    assert stream(choice(delta={"role": "assistant", "content": "a"}), DONE).first_s == 1.0


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"content": ""},  # half a character is held back
    ],
)
def test_other_chunks_that_stand_for_tokens(delta: dict[str, Any]) -> None:
    answer = stream(choice(delta=delta), choice(delta={}, finish_reason="stop"), DONE)
    assert answer.num_chunks == 1


def test_the_last_token_may_come_with_the_reason() -> None:
    assert stream(choice(text="a"), choice(text="b", finish_reason="length")).num_chunks == 2


def test_cached_tokens() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": None}
    answer = stream(choice(text="a"), event(choices=[], usage=usage), DONE)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is None


def test_several_events_in_one_read_came_at_one_time() -> None:
    answer = stream(choice(text="a") + choice(text="b") + DONE)
    assert list(answer.gaps) == [0.0]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([choice(text="a")], "cut_stream"),
        ([DONE], "no_tokens"),
        ([choice(text="", finish_reason="stop")], "no_tokens"),
        ([b"data: {not json\n\n", DONE], "bad_stream"),
        ([choice(text="a"), event(error={"message": "out of memory"})], "stream_error"),
    ],
)
def test_broken_streams(parts: list[bytes], error: str) -> None:
    assert stream(*parts).error == error


def test_an_error_in_the_stream_is_quoted() -> None:
    answer = stream(choice(text="a"), event(error={"message": "out of memory"}), DONE)
    assert "out of memory" in answer.detail


def test_an_http_error_is_named_by_its_status_and_quoted() -> None:
    answer = Answer()
    answer.on_headers(429, b"application/json")
    answer.on_body(b'{"error": "slow', 1.0)
    answer.on_body(b' down"}', 2.0)
    answer.on_complete()
    assert answer.error == "http_429"
    assert "slow down" in answer.detail


def test_an_answer_that_is_no_stream() -> None:
    answer = Answer()
    answer.on_headers(200, b"application/json")
    answer.on_body(b"{}", 1.0)
    answer.on_complete()
    assert answer.error == "bad_stream"


def test_the_first_failure_is_the_one_told() -> None:
    answer = Answer()
    answer.fail("timeout", "too late")
    answer.fail("cut_stream", "and then this")
    assert (answer.error, answer.detail) == ("timeout", "too late")


def test_a_long_error_is_cut() -> None:
    answer = Answer()
    answer.on_headers(500, b"text/html")
    for _ in range(100):
        answer.on_body(b"x" * 1000, 1.0)
    answer.on_complete()
    assert len(answer.detail) <= 300
