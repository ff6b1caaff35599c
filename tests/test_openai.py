"""Wire types: what decodes, what is refused and how it is named, and how events look."""

from __future__ import annotations

import msgspec
import pytest

from shoal.errors import InvalidRequest, QueueFull
from shoal.openai.chat import ChatChunkChoice, ChatCompletionChunk, ChatCompletionRequest, ChatDelta
from shoal.openai.completion import CompletionRequest
from shoal.openai.decode import decode_body
from shoal.openai.error import error_body
from shoal.openai.sse import DONE, sse_event

completions = msgspec.json.Decoder(CompletionRequest)
chats = msgspec.json.Decoder(ChatCompletionRequest)


def test_a_body_decodes_with_unknown_fields_skipped() -> None:
    body = decode_body(completions, b'{"prompt": [[1, 2]], "logit_bias": {"7": -1}, "x": {"y": 1}}')
    assert body.prompt == [[1, 2]]
    assert body.logit_bias == {7: -1.0}
    assert body.max_tokens is None


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"max_tokens": "7"}', "max_tokens"),
        (b'{"stop": ["a", 1]}', "stop[1]"),
        (b'{"logit_bias": {"x": 1}}', "logit_bias"),
        (b'{"logit_bias": {"1": "x"}}', "logit_bias[...]"),
        (b'{"stream_options": {"include_usage": "yes"}}', "stream_options.include_usage"),
        (b'{"prompt": [[1, "a"]]}', "prompt[0][1]"),
        (b"[]", None),
        (b"{", None),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(completions, raw)
    assert caught.value.param == param
    assert "$" not in caught.value.message


def test_a_field_of_a_message_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_body(chats, b'{"messages": [{"role": "user", "content": "a"}, {"role": 7}]}')
    assert caught.value.param == "messages[1].role"


def test_an_event_is_one_line_of_json() -> None:
    chunk = ChatCompletionChunk(
        id="x",
        created=1,
        model="m",
        choices=[ChatChunkChoice(index=0, delta=ChatDelta(content="a\nb"))],
    )
    event = sse_event(chunk)
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    choice = msgspec.json.decode(event[len(b"data: ") :])["choices"][0]
    assert choice == {
        "index": 0,
        "delta": {"content": "a\nb"},
        "logprobs": None,
        "finish_reason": None,
    }
    assert DONE == b"data: [DONE]\n\n"


def test_error_body() -> None:
    assert msgspec.to_builtins(error_body(QueueFull("full", param="p"))) == {
        "error": {
            "message": "full",
            "type": "rate_limit_error",
            "param": "p",
            "code": "queue_full",
        }
    }
