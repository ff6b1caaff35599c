"""Bytes of a body on their way: the same ones, and framing that is right where it is ours."""

from __future__ import annotations

import random

import pytest

from shoal.router.settings.routing import FailoverConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import BrokenAnswer, post, until
from tests.router.proxy.raw_worker import WorkerConnection, answering, answering_once, chunk

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GREEDY = b'{"model":"m","prompt":"x","stream":true,"temperature":0}'
EVENTS = [
    b'data: {"id":"c","object":"text_completion","created":1,"model":"m",'
    b'"choices":[{"index":0,"text":"%b","logprobs":null,"finish_reason":null}]}\n\n' % text
    for text in (b"a", b"b", "ü".encode(), b"c")
]
LAST = [
    b'data: {"id":"c","object":"text_completion","created":1,"model":"m",'
    b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]


async def test_a_stream_is_relayed_byte_for_byte(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Chunk borders, extensions and trailers included: nothing is parsed that need not be."""
    body = b"".join(
        [
            b"1;ext=1\r\nd\r\n",
            b"0003\r\nata\r\n",
            chunk(b": hello\n\n"),
            chunk(EVENTS[0] + EVENTS[1]),
            *(chunk(bytes([byte])) for byte in EVENTS[2]),
            chunk(b"data: [DONE]\n\n"),
            b"0\r\nx-trailer: 1\r\n\r\n",
        ]
    )
    worker = await run_worker(
        answering_once(SSE, *(body[i : i + 5] for i in range(0, len(body), 5)))
    )
    router = await run_router(worker)
    client = await router.client()
    client.send(post(b'{"model":"m","stream":true}'))
    await client.read_until(b"\r\n\r\n")
    assert await client.read_until(b"x-trailer: 1\r\n\r\n") == body


@pytest.mark.parametrize("seed", range(3))
async def test_random_bodies_arrive_as_they_were(
    seed: int, run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Any bytes, in any pieces, both ways."""
    rng = random.Random(seed)
    payload = rng.randbytes(300_000)
    body, start = b"", 0
    while start < len(payload):
        size = rng.choice([1, 2, 100, 5000, 70_000])
        body += chunk(payload[start : start + size])
        start += size
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    parts = []
    while answer:
        size = rng.choice([1, 50, 10_000, 100_000])
        parts.append(answer[:size])
        answer = answer[size:]
    worker = await run_worker(answering_once(*parts))
    router = await run_router(worker)
    client = await router.client()
    asked = b'{"model":"m",  "prompt":\t"%b"\n}  ' % rng.randbytes(50_000).hex().encode()
    assert (await client.ask(post(asked))).body == payload
    assert worker.requests[0].body == asked


@pytest.mark.parametrize("engine", ["shoal", "vllm"])
async def test_a_stream_that_could_go_on_elsewhere_is_framed_anew(
    engine: str, run_worker: RunWorker, run_router: RunRouter
) -> None:
    whole = b"".join(EVENTS + LAST)
    payload = [whole[i : i + 11] for i in range(0, len(whole), 11)]
    worker = await run_worker(
        answering_once(SSE, *(chunk(piece) for piece in payload), b"0\r\n\r\n")
    )
    router = await run_router(worker, engine=engine)
    client = await router.client()
    got = await client.ask(post(GREEDY, path="/v1/completions"))
    assert got.body == whole
    assert got.values(b"transfer-encoding") == [b"chunked"]
    assert (await client.ask(post(GREEDY, path="/v1/completions"))).body == whole


@pytest.mark.parametrize(
    ("engine", "says_why"), [("openai", False), ("shoal", True)], ids=["relayed", "framed anew"]
)
async def test_a_stream_cut_for_good_has_no_clean_end(
    engine: str, says_why: bool, run_worker: RunWorker, run_router: RunRouter
) -> None:
    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(SSE + chunk(EVENTS[0]))
        await until(lambda: router.connection.exchange and router.connection.exchange.is_committed)
        connection.reset()

    worker = await run_worker(script)
    router = await run_router(worker, engine=engine, failover=FailoverConfig(max_attempts=0))
    client = await router.client()
    client.send(post(GREEDY, path="/v1/completions"))
    with pytest.raises(BrokenAnswer) as broken:
        await client.answer()
    assert repr(EVENTS[0])[2:-1] in str(broken.value)
    assert ("stream_cut" in str(broken.value)) == says_why


async def test_the_head_and_first_bytes_travel_together(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Until a body begins the worker can still be changed, so nothing is promised."""
    sent: list[bytes] = []

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(SSE)
        exchange = router.connection.exchange
        assert exchange is not None
        await until(lambda: exchange.tried[0].head)
        assert not exchange.is_committed
        sent.append(SSE)
        await connection.send(chunk(EVENTS[0]) + b"0\r\n\r\n")

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    assert (await client.ask(post())).body == EVENTS[0]
    assert sent


async def test_http_1_0_gets_a_stream_without_framing(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(
        answering(SSE + b"".join(chunk(event) for event in EVENTS + LAST) + b"0\r\n\r\n")
    )
    for engine in ("openai", "shoal"):
        router = await run_router(worker, engine=engine)
        client = await router.client()
        client.send(post(GREEDY, path="/v1/completions", version="1.0"))
        head, _, body = (await client.read_all()).partition(b"\r\n\r\n")
        assert body == b"".join(EVENTS + LAST)
        assert b"transfer-encoding" not in head
