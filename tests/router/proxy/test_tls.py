"""TLS on both sides, on the loop the data plane runs on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from shoal.router.access.tls import server_context
from shoal.router.settings.listen import BoundsConfig, TLSConfig, UpstreamConfig
from tests.router.access.certificates import Authority, Pair
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import get, post, until
from tests.router.proxy.raw_worker import WorkerConnection, answering_once, chunk


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def pair(ours: Authority) -> Pair:
    return ours.issue("server")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "stranger")


def client_side(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def test_a_client_over_tls(
    ours: Authority, pair: Pair, run_worker: RunWorker, run_router: RunRouter
) -> None:
    body = [chunk(b"a" * 100_000) for _ in range(20)]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    worker = await run_worker(answering_once(head, *body, b"0\r\n\r\n"))
    context = server_context(TLSConfig(certificate=pair.certificate, key=pair.key))
    router = await run_router(worker, context=context)
    client = await router.client(context=client_side(ours))
    got = await client.ask(post(b'{"model":"m","prompt":"%b"}' % (b"x" * 500_000)))
    assert got.body == b"a" * 2_000_000
    assert (await client.ask(get("/health"))).status == 200
    assert worker.requests[0].value(b"x-forwarded-for") == b"127.0.0.1"


async def test_a_refusal_over_tls(ours: Authority, pair: Pair, run_router: RunRouter) -> None:
    context = server_context(TLSConfig(certificate=pair.certificate, key=pair.key))
    router = await run_router(context=context)
    client = await router.client(context=client_side(ours))
    got = await client.ask(b"nonsense\r\n\r\n")
    assert got.status == 400
    assert await client.ended()
    await until(lambda: not router.gateway.connections)


async def test_a_client_over_tls_that_goes(
    ours: Authority, pair: Pair, run_worker: RunWorker, run_router: RunRouter
) -> None:
    gone = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()
        gone.set()

    worker = await run_worker(script)
    context = server_context(TLSConfig(certificate=pair.certificate, key=pair.key))
    router = await run_router(worker, context=context)
    router.sweeper.stop()
    client = await router.client(context=client_side(ours))
    client.send(post())
    await until(lambda: worker.requests)
    client.close()
    async with asyncio.timeout(30):
        await gone.wait()


async def test_mutual_tls(
    ours: Authority, stranger: Authority, pair: Pair, run_router: RunRouter
) -> None:
    tls = TLSConfig(certificate=pair.certificate, key=pair.key, client_ca=ours.ca)
    router = await run_router(context=server_context(tls))
    known = await router.client(context=client_side(ours, ours.issue("client")))
    assert (await known.ask(get("/health"))).status == 200
    for pair_of_client in (None, stranger.issue("client")):
        # In TLS 1.3 the client learns of its refusal when it reads.
        client = await router.client(context=client_side(ours, pair_of_client))
        client.send(get("/health"))
        data = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            data = await client.read()
        assert data == b""
    assert len(router.gateway.connections) == 1


async def test_a_plain_client_on_a_tls_port(pair: Pair, run_router: RunRouter) -> None:
    context = server_context(TLSConfig(certificate=pair.certificate, key=pair.key))
    router = await run_router(context=context)
    client = await router.client()
    client.send(get("/health"))
    assert b"HTTP/1.1 200" not in await client.read_all()
    assert not router.gateway.connections


async def test_a_handshake_that_is_never_made(pair: Pair, run_router: RunRouter) -> None:
    context = server_context(TLSConfig(certificate=pair.certificate, key=pair.key))
    router = await run_router(context=context, bounds=BoundsConfig(header_timeout_s=0.05))
    client = await router.client()
    assert await client.ended()


async def test_a_worker_over_tls(
    ours: Authority, pair: Pair, run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Its certificate is checked, and it may ask for ours."""
    tls = TLSConfig(certificate=pair.certificate, key=pair.key, client_ca=ours.ca)
    worker = await run_worker(context=server_context(tls))
    mine = ours.issue("router")
    upstream = UpstreamConfig(ca=ours.ca, client_certificate=mine.certificate, client_key=mine.key)
    router = await run_router(worker, upstream=upstream)
    client = await router.client()
    for _ in range(2):
        assert (await client.ask(post())).body == b"{}"
    assert len(worker.connections) == 1
    assert worker.requests[0].value(b"host") == b"127.0.0.1:%d" % worker.port


async def test_a_worker_with_a_strangers_certificate(
    ours: Authority, stranger: Authority, run_worker: RunWorker, run_router: RunRouter
) -> None:
    theirs = stranger.issue("worker")
    worker = await run_worker(
        context=server_context(TLSConfig(certificate=theirs.certificate, key=theirs.key))
    )
    router = await run_router(worker, upstream=UpstreamConfig(ca=ours.ca, connect_timeout_s=5.0))
    client = await router.client()
    got = await client.ask(post())
    assert got.status == 502
    assert worker.requests == []
