"""What goes to the client, and what is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.router.failover.recorder import MAX_EVENT_BYTES, Recorder, is_failure
from tests.router.failover.cutting import CHAT, prepared

BODY = {"model": "m", "messages": [], "temperature": 0}


def recorder(max_recorded_bytes: int = 1 << 20, **fields: Any) -> Recorder:
    return Recorder(prepared(CHAT, {**BODY, **fields}), max_recorded_bytes=max_recorded_bytes)


def event(content: str, *token_ids: int, **more: Any) -> bytes:
    choice = {
        "index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None,
        "token_ids": list(token_ids),
    }  # fmt: skip
    body = {"id": "a", "created": 1, "model": "m", "choices": [choice | more]}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def without_ids(data: bytes) -> bytes:
    head, _, rest = data.partition(b',"token_ids":[')
    return head + rest[rest.index(b"]") + 1 :]


def test_token_ids_are_cut_out_and_nothing_else() -> None:
    tricky = event('a,"token_ids":[1] "prompt_token_ids":[2]', 5, 6)
    assert recorder().feed(tricky) == without_ids(tricky)
    first = tricky.replace(b'"choices"', b'"prompt_token_ids":[1,2],"choices"')
    assert recorder().feed(first) == without_ids(tricky)
    assert recorder().feed(first + tricky) == 2 * without_ids(tricky)


def test_a_client_that_asked_keeps_them() -> None:
    assert recorder(return_token_ids=True).feed(event("a", 1)) == event("a", 1)


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_only_whole_events_are_relayed(size: int) -> None:
    stream = event("a", 1) + event("ü", 2) + b": ping\n\n" + event("c", 3) + b"data: [DONE]\n\n"
    one = recorder()
    out = b""
    for at in range(0, len(stream), size):
        out += one.feed(stream[at : at + size])
        assert out == b"" or out.endswith(b"\n\n")
        assert one.finished is (at + size >= len(stream))
    one.fold()
    assert (one.transcript.text, one.transcript.token_ids) == ("aüc", [1, 2, 3])
    assert b"token_ids" not in out
    assert out.count(b"data:") == 4


def test_lines_may_end_with_crlf() -> None:
    stream = (event("a", 1) + event("b", 2)).replace(b"\n", b"\r\n")
    one = recorder()
    assert one.feed(stream[:-1]).count(b"data:") == 1
    one.feed(stream[-1:])
    one.fold()
    assert one.transcript.text == "ab"


def test_a_long_stream_is_folded_and_then_given_up() -> None:
    one = recorder(max_recorded_bytes=20_000)
    for i in range(1000):
        one.feed(event("word ", i))
    assert one.is_resumable
    assert len(one.transcript.token_ids) > 700  # folded on the way, not at the end
    for i in range(1000):
        assert one.feed(event("word ", i)) == without_ids(event("word ", i))
    assert not one.is_resumable
    assert one.transcript.num_bytes == 0


def test_what_is_no_event_is_passed_on() -> None:
    one = recorder()
    endless = b"x" * (MAX_EVENT_BYTES + 1)
    assert one.feed(endless) == endless
    assert not one.is_resumable
    other = recorder()
    assert other.feed(b"data: not json\n\n") == b"data: not json\n\n"
    other.fold()
    assert not other.is_resumable


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (b'{"error":{"message":"EngineDeadError","type":"InternalServerError","code":500}}', True),
        (b'{"error": {"message":"x","type":"service_unavailable","code":"engine_unavailable"}}',
         True),
        (b'{"error":{"message":"x","type":"BadRequestError","code":400}}', False),
        (b'{"error":{"message":"x","type":"invalid_request_error","code":null}}', False),
        (b'{"choices":[{"index":0,"finish_reason":"abort"}]}', True),
        (b'{"choices":[{"index":0,"finish_reason":"stop"}]}', False),
    ],
)  # fmt: skip
def test_a_worker_that_says_it_failed_counts_as_dead(error: bytes, expected: bool) -> None:
    failure = b"data: " + error + b"\n\n"
    assert is_failure(failure) is expected
    one = recorder()
    out = one.feed(event("a", 1) + failure + b"data: [DONE]\n\n")
    assert out.startswith(without_ids(event("a", 1)))
    if expected:
        assert out == without_ids(event("a", 1))
        assert one.failure == failure
        assert not one.finished
        assert one.feed(event("b", 2)) == b""
    else:
        assert one.failure is None
        assert one.finished


def test_a_text_about_errors_is_no_error() -> None:
    one = recorder()
    data = event('data: {"error": 1} "finish_reason":"abort"', 1)
    assert one.feed(data) == without_ids(data)
    assert one.failure is None
