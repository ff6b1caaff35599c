"""Header fields between client and worker: which end here, which pass, which are ours."""

from __future__ import annotations

import pytest

from shoal.router.settings.access import AuthConfig, TelemetryConfig
from shoal.router.settings.listen import UpstreamConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import get, post
from tests.router.proxy.raw_worker import answering

_TRACE = b"0af7651916cd43dd8448eb211c80319c"


async def test_what_a_worker_gets(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    await client.ask(
        b"POST /v1/chat/completions?a=b HTTP/1.1\r\n"
        b"Host: public.example\r\n"
        b"Content-Type: application/json\r\n"
        b"Authorization: Bearer sk-client\r\n"
        b"X-Custom: one\r\n"
        b"x-custom: two\r\n"
        b"Cookie: a=b; c=d\r\n"
        b"tracestate: vendor=1\r\n"
        b"X-Request-Id: mine-1\r\n"
        b"Content-Length: 13\r\n\r\n"
        b'{"model":"m"}'
    )
    (request,) = worker.requests
    assert (
        request.raw
        == (
            b"POST /v1/chat/completions?a=b HTTP/1.1\r\n"
            b"host: 127.0.0.1:%d\r\n"
            b"content-type: application/json\r\n"
            b"authorization: Bearer sk-client\r\n"
            b"x-custom: one\r\n"
            b"x-custom: two\r\n"
            b"cookie: a=b; c=d\r\n"
            b"tracestate: vendor=1\r\n"
            b"x-forwarded-for: 127.0.0.1\r\n"
            b"x-request-id: mine-1\r\n"
            b"content-length: 13\r\n\r\n"
            b'{"model":"m"}'
        )
        % worker.port
    )


async def test_hop_by_hop_fields_of_a_request_end_here(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    await client.ask(
        post(
            fields=b"Connection: X-Secret, keep-alive\r\n"
            b"connection:x-other ,, X-Third\r\n"
            b"Keep-Alive: timeout=5\r\n"
            b"Proxy-Authorization: Basic eDp5\r\n"
            b"Proxy-Authenticate: x\r\n"
            b"Proxy-Connection: keep-alive\r\n"
            b"TE: trailers\r\n"
            b"Trailer: x\r\n"
            b"Upgrade: h2c\r\n"
            b"X-Secret: 1\r\nX-Other: 2\r\nX-THIRD: 3\r\nX-Stays: 4\r\n"
        )
    )
    names = {line.partition(b":")[0] for line in worker.requests[0].lines}
    assert names == {
        b"host", b"x-stays", b"x-forwarded-for", b"x-request-id", b"content-length"
    }  # fmt: skip


async def test_hop_by_hop_fields_of_an_answer_end_here(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(
        answering(
            b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nDate: x\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
            b"Connection: X-Secret, content-length, transfer-encoding\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Authenticate: x\r\nTrailer: x\r\nUpgrade: h2c\r\nX-Secret: 1\r\n"
            b"X-Request-Id: theirs\r\nX-Stays: 4\r\nContent-Length: 2\r\n\r\nok"
        )
    )
    router = await run_router(worker)
    client = await router.client()
    for _ in range(2):  # a head that repeats is read once
        got = await client.ask(post(fields=b"X-Request-Id: mine\r\n"))
        assert sorted(got.fields) == [
            (b"content-length", b"2"),
            (b"date", b"x"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"b"),
            (b"x-request-id", b"mine"),
            (b"x-stays", b"4"),
        ]


async def test_answers_that_differ_on_one_connection_keep_their_own_fields(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    heads = [b"x-n: 1\r\n", b"x-n: 1\r\n", b"x-n: 2\r\nx-m: 3\r\n", b"", b"x-n: 1\r\n"]
    left = list(heads)

    async def script(connection: object) -> None:
        while True:
            await connection.request()  # type: ignore[attr-defined]
            head = b"HTTP/1.1 200 OK\r\n%bcontent-length: 0\r\n\r\n" % left.pop(0)
            await connection.send(head)  # type: ignore[attr-defined]

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    got = [await client.ask(post(fields=b"X-Request-Id: r\r\n")) for _ in heads]
    assert [
        b"".join(b"%b: %b\r\n" % f for f in a.fields if f[0] in (b"x-n", b"x-m")) for a in got
    ] == heads
    assert len(worker.connections) == 1


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (b"", b"127.0.0.1"),
        (b"X-Forwarded-For: 10.0.0.1\r\n", b"10.0.0.1, 127.0.0.1"),
        (b"X-Forwarded-For: a, b\r\nX-FORWARDED-FOR: c\r\n", b"a, b, c, 127.0.0.1"),
    ],
)
async def test_forwarded_for(
    sent: bytes, passed_on: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post(fields=sent))
    assert worker.requests[0].value(b"x-forwarded-for") == passed_on


@pytest.mark.parametrize("wanted", [b"a", b"req_1-2.3:4/5+6=", b"x" * 128])
async def test_a_harmless_request_id_is_kept(
    wanted: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    got = await client.ask(post(fields=b"X-Request-Id: %b\r\n" % wanted))
    assert got.value(b"x-request-id") == worker.requests[0].value(b"x-request-id") == wanted


@pytest.mark.parametrize(
    "wanted", [b"", b"a b", b"x" * 129, b"a\tb", b"\xe4", b'"', b"a,b", b"<a>"]
)
async def test_another_request_id_is_replaced(
    wanted: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    got = await client.ask(post(fields=b"X-Request-Id: %b\r\n" % wanted))
    given = got.value(b"x-request-id")
    assert given == worker.requests[0].value(b"x-request-id")
    assert given != wanted
    assert 8 < len(given) < 64


async def test_request_ids_differ_and_are_in_our_own_answers(run_router: RunRouter) -> None:
    router = await run_router()
    client = await router.client()
    ids = {
        (await client.ask(message)).value(b"x-request-id")
        for message in (get("/health"), get("/v1/models"), get("/nothing"), post(b"{"), post(b"{"))
    }
    assert len(ids) == 5
    got = await client.ask(post(b"{", fields=b"X-Request-Id: mine\r\n"))
    assert got.value(b"x-request-id") == b"mine"


@pytest.mark.parametrize("flags", [b"00", b"01"])
async def test_a_trace_is_continued(
    flags: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    span = b"b7ad6b7169203331"
    for number in range(2):
        field = b"traceparent: 00-%b-%b-%b\r\n" % (_TRACE, span, flags)
        await client.ask(post(fields=field))
        version, trace, parent, got_flags = (
            worker.requests[number].value(b"traceparent").split(b"-")
        )
        assert (version, trace, got_flags) == (b"00", _TRACE, flags)
        assert parent != span
        assert len(parent) == 16


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"ff-" + _TRACE + b"-b7ad6b7169203331-01",
        b"00-" + _TRACE.upper() + b"-b7ad6b7169203331-01",
    ],
)
async def test_a_broken_trace_begins_anew(
    sent: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post(fields=b"traceparent: %b\r\n" % sent))
    version, trace, parent, _ = worker.requests[0].value(b"traceparent").split(b"-")
    assert (version, len(trace), len(parent)) == (b"00", 32, 16)
    assert trace.lower() != _TRACE


async def test_without_a_trace_none_begins(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, telemetry=TelemetryConfig(access_log=None))
    client = await router.client()
    await client.ask(post())
    assert worker.requests[0].values(b"traceparent") == []


@pytest.mark.parametrize(
    ("upstream_key", "has_keys", "expected"),
    [
        (None, False, [b"Bearer sk-client"]),
        (None, True, []),
        ("sk-worker", False, [b"Bearer sk-worker"]),
        ("sk-worker", True, [b"Bearer sk-worker"]),
    ],
)
async def test_who_a_worker_sees(
    upstream_key: str | None,
    has_keys: bool,
    expected: list[bytes],
    run_worker: RunWorker,
    run_router: RunRouter,
) -> None:
    """Keys of ours never reach a worker; without any, the client's may be the worker's own."""
    from shoal.router.access.keys import key_digest

    worker = await run_worker()
    keys = b"- {name: a, sha256: %b}" % key_digest("sk-client").encode() if has_keys else b""
    router = await run_router(
        worker,
        keys=keys,
        auth=AuthConfig(keys_file="keys.yaml" if has_keys else None),
        upstream=UpstreamConfig(api_key=upstream_key),
    )
    client = await router.client()
    fields = b"Authorization: Bearer sk-client\r\nX-API-Key: sk-client\r\n"
    assert (await client.ask(post(fields=fields))).status == 200
    (request,) = worker.requests
    assert request.values(b"authorization") == expected
    assert (b"sk-client" in request.raw) == (upstream_key is None and not has_keys)
