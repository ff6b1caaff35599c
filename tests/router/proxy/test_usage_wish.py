from __future__ import annotations

import json
import random

import pytest

from shoal.router.proxy.usage_wish import UsageFilter, ask_for_usage
from shoal.router.request_fields import decode_fields
from shoal.router.settings.access import PriceConfig, TelemetryConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import post
from tests.router.proxy.raw_worker import answering, chunk
from tests.router.proxy.running_router import QUIET

TEXT = [
    b'data: {"choices":[{"index":0,"text":"a"}],"usage":null}',
    b": a comment",
    b'data: {"choices": [], "x": 1}',
    b'data: {"choices":[{"index":0,"text":"\xc3\xbc"}]}',
]
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
DONE = b"data: [DONE]"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("seed", range(5))
def test_the_usage_event_is_taken_out_of_pieces(end: bytes, seed: int) -> None:
    rng = random.Random(seed)
    stream = b"".join(event + end for event in [*TEXT, USAGE, DONE])
    hidden = UsageFilter()
    passed = b""
    while stream:
        size = rng.choice([1, 3, 20, 100])
        passed += hidden.feed(stream[:size])
        stream = stream[size:]
    passed += hidden.end()
    assert passed == b"".join(event + end for event in [*TEXT, DONE])
    assert hidden.event == USAGE + end


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_whole_event_is_not_held_back(end: bytes) -> None:
    hidden = UsageFilter()
    assert hidden.feed(TEXT[0] + end) == TEXT[0] + end
    assert hidden.feed(TEXT[1] + end + b"data: ha") == TEXT[1] + end
    assert hidden.feed(b"lf" + end) == b"data: half" + end


def test_what_has_no_end_is_passed_on() -> None:
    hidden = UsageFilter()
    assert hidden.feed(b"x" * 2_000_000) == b"x" * 2_000_000
    assert hidden.feed(b"y") == b""
    assert hidden.end() == b"y"


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (b'{"model":"m","stream":true}', {"include_usage": True}),
        (b'{"model":"m","stream":true} \n', {"include_usage": True}),
        (
            b'{"stream_options":{"a":1,"include_usage":false},"stream":true}',
            {"a": 1, "include_usage": True},
        ),
        (b'{"stream_options":null,"stream":true}', {"include_usage": True}),
    ],
)
def test_the_wish_in_the_body(body: bytes, options: dict[str, object]) -> None:
    wished = ask_for_usage(b"/v1/completions", decode_fields(body), body)
    assert wished is not None
    assert json.loads(wished) == {**json.loads(body), "stream_options": options}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/v1/completions", b'{"stream":false}'),
        (b"/v1/completions", b"{}"),
        (b"/v1/completions", b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b"/v1/embeddings", b'{"stream":true}'),
    ],
)
def test_no_wish_is_needed(path: bytes, body: bytes) -> None:
    assert ask_for_usage(path, decode_fields(body), body) is None


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
async def test_a_client_that_did_not_ask_does_not_see_it(
    end: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    events = b"".join(chunk(event + end) for event in [*TEXT, USAGE, DONE])
    worker = await run_worker(answering(head + events + b"0\r\n\r\n"))
    prices = TelemetryConfig(access_log=QUIET.access_log, prices={"m": PriceConfig(prompt=1.0)})
    router = await run_router(worker, telemetry=prices)
    client = await router.client()
    for wish, seen in ((b"", [*TEXT, DONE]), (b',"include_usage":true', [*TEXT, USAGE, DONE])):
        body = b'{"model":"m","stream":true,"stream_options":{"a":1%b}}' % wish
        got = await client.ask(post(body, path="/v1/completions"))
        assert got.body == b"".join(event + end for event in seen)
    assert all(b'"include_usage":true' in request.body for request in worker.requests)
