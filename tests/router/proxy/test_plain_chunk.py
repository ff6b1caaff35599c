"""Chunks that pass without a parser: exactly the plain ones, in any company."""

from __future__ import annotations

import json
from pathlib import Path

import h11
import pytest

from shoal.router.proxy.plain_chunk import is_plain_event, whole_chunk
from shoal.router.settings.access import TelemetryConfig
from shoal.router.settings.config import FailoverConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import post, until
from tests.router.proxy.raw_worker import WorkerConnection, answering, chunk
from tests.router.proxy.running_router import RunningRouter

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
REQUEST = post(b'{"model":"m","stream":true,"temperature":0,"prompt":"x"}', path="/v1/completions")


def token(text: str, more: bytes = b"") -> bytes:
    return b'data: {"id":"1","choices":[{"index":0,"text":"%b","finish_reason":null%b}]}\n\n' % (
        text.encode(),
        more,
    )


DONE = b"data: [DONE]\n\n"
STOP = b'data: {"id":"1","choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize("size", [1, 9, 15, 16, 255, 4096, 0xABCDE])
def test_a_whole_chunk_is_seen(size: int) -> None:
    payload = b"x" * size
    for data in (chunk(payload), b"%X\r\n%b\r\n" % (size, payload)):
        start = whole_chunk(data)
        assert data[start:-2] == payload


@pytest.mark.parametrize(
    "data",
    [
        b"", b"5", b"5\r\n", b"5\r\nhell", b"5\r\nhello", b"5\r\nhello\r", b"5\r\nhello\n\n",
        b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n5\r\nhello\r\n", b"0\r\n\r\n", b"00\r\n\r\n",
        b"\r\nhello\r\n", b"5;x\r\nhello\r\n", b"5 \r\nhello\r\n", b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5_\r\nhello\r\n",
        b"g\r\nhello\r\n", b"5\nhello\r\n", b"4\r\nhello\r\n", b"6\r\nhello\r\n",
        b"0000005\r\nhello\r\n", b"5\r\rhello\r\n", b"\n5\r\nhello\r\n",
    ],
)  # fmt: skip
def test_anything_else_is_not(data: bytes) -> None:
    assert whole_chunk(data) == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\n\n", DONE, STOP, b": ping\n\n", token("a")[:-1], token("a") + token("b"),
        token("a") + DONE, b"event: x\n" + token("a"), token("a").replace(b"\n\n", b"\r\n\r\n"),
        token("a").replace(b"null", b'"abort"'), b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"id":"1","error":{"message":"\\"finish_reason\\":null"}}\n\n',
        token("a", b',"token_ids":[1]'), token("a", b',"prompt_token_ids":[1]'),
    ],
)  # fmt: skip
def test_events_that_must_be_looked_at(payload: bytes) -> None:
    assert not is_plain_event(payload, without_token_ids=True)


def test_plain_events() -> None:
    assert is_plain_event(token("a"), without_token_ids=True)
    assert is_plain_event(token('\\"choices\\":[]'), without_token_ids=True)
    assert is_plain_event(token("a", b',"token_ids":[1]'), without_token_ids=False)


PIECES = [
    [chunk(token("a")), chunk(token("b"))],
    [chunk(token("a")) + chunk(token("b")), chunk(token("c"))],
    [chunk(token("a"))[:30], chunk(token("a"))[30:], chunk(token("b"))],
    [chunk(token("a"))[:-1], b"\n" + chunk(token("b")), chunk(token("c"))],
    [chunk(token("a")) + b"5", b"\r\nda", b"ta:\r\n", chunk(token("b")), chunk(b" x\n\n")],
    [chunk(token("a")[:20]), chunk(token("a")[20:]), chunk(token("b"))],
    [chunk(token("a") + token("b")), chunk(token("c")), chunk(b": ping\n\n"), chunk(token("d"))],
    [b"%x;name=value\r\n%b\r\n" % (len(token("a")), token("a")), chunk(token("b"))],
    [chunk(token("a", b',"token_ids":[1,2]')), chunk(token("b"))],
]


@pytest.mark.parametrize("pieces", PIECES, ids=range(len(PIECES)))
@pytest.mark.parametrize("engine", ["openai", "sglang", "vllm"])
@pytest.mark.parametrize("is_first", [True, False], ids=["with the head", "after the head"])
async def test_a_stream_is_whole_however_it_is_cut(
    pieces: list[bytes], engine: str, run_worker: RunWorker, run_router: RunRouter, is_first: bool
) -> None:  # fmt: skip
    first = [HEAD + pieces[0], *pieces[1:]] if is_first else [HEAD, *pieces]
    sent = [*first, chunk(STOP), chunk(DONE) + b"0\r\n\r\n"]

    async def serve(connection: WorkerConnection) -> None:
        for _ in range(2):
            await connection.request()
            for piece in sent:  # each a read of its own
                before = num_reads(router)
                await connection.send(piece)
                await until(lambda before=before: num_reads(router) != before)

    worker = await run_worker(serve)
    router = await run_router(worker, engine=engine, failover=FailoverConfig(mode="exact"))
    client = await router.client()
    expected = _payload(b"".join(pieces)) + STOP + DONE
    if engine == "vllm":
        expected = expected.replace(b',"token_ids":[1,2]', b"")
    for _ in range(2):
        answer = await client.ask(REQUEST)
        assert answer.body == expected


def num_reads(router: RunningRouter) -> int:
    """Of the answer that is under way; 0: there is none."""
    return sum(
        attempt.connection.num_reads
        for attempt in router.gateway.attempts
        if attempt.connection is not None
    )


def _payload(chunks: bytes) -> bytes:
    """By a parser that is not ours."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(HEAD + chunks + b"0\r\n\r\n")
    body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    return body


async def test_the_log_counts_what_the_client_was_sent(
    tmp_path: Path, run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Not what the worker sent: its usage, which the client did not ask for, is taken out."""
    usage = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    pieces = [chunk(token("a")), chunk(STOP), chunk(usage), chunk(DONE), b"0\r\n\r\n"]
    worker = await run_worker(answering(HEAD + b"".join(pieces)))
    log = tmp_path / "access.log"
    telemetry = TelemetryConfig(access_log=str(log), usage_log=str(tmp_path / "usage.log"))
    router = await run_router(worker, engine="vllm", telemetry=telemetry)
    client = await router.client()
    assert (await client.ask(REQUEST)).body == token("a") + STOP + DONE
    router.gateway.records.close()
    (entry,) = [json.loads(line) for line in log.read_text().splitlines()]
    sent = chunk(token("a")) + chunk(STOP + DONE) + b"0\r\n\r\n"
    assert abs(entry["bytes_out"] - len(sent)) < 20  # however its chunks were framed
    assert entry["prompt_tokens"] == 3
