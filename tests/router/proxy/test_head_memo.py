"""The head of a request is understood once a connection: never for a request that differs."""

from __future__ import annotations

import pytest

from shoal.router.proxy.admission import HeadMemo
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.listen import UpstreamConfig
from shoal.router.settings.protection import LimitsConfig
from shoal.router.settings.routing import RoutingConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.keys import AUTH, bearer, keys_file
from tests.router.proxy.raw_client import Answer, RawClient, get, post
from tests.router.proxy.raw_worker import RawWorker
from tests.router.proxy.running_router import QUIET, RunningRouter

MODELS = keys_file(a="models: [m]", b="models: [other]", c="")


@pytest.fixture
async def worker(run_worker: RunWorker) -> RawWorker:
    return await run_worker()


@pytest.fixture
async def router(worker: RawWorker, run_router: RunRouter) -> RunningRouter:
    return await run_router(worker, keys=MODELS, auth=AUTH)


@pytest.fixture
async def client(router: RunningRouter) -> RawClient:
    return await router.client()


async def test_it_is_kept_while_the_head_repeats(router: RunningRouter, client: RawClient) -> None:
    memos: list[HeadMemo | None] = []
    for number in range(3):
        body = b'{"model":"m","n":%d}' % number
        fields = bearer("a") + b"X-Request-Id: r%d\r\n" % number
        assert (await client.ask(post(body, fields=fields))).status == 200
        memos.append(router.connection.head_memo)
    assert memos[0] is not None
    assert memos[0] is memos[1] is memos[2]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (post(fields=bearer("b")), 403),
        (post(fields=bearer("nobody")), 401),
        (post(), 401),
        (post(fields=b"X-Api-Key: sk-b\r\n"), 403),
        (post(b'{"model":"other"}', fields=bearer("a")), 403),
        (post(fields=bearer("a"), path="/v1/load_lora_adapter"), 404),
        (post(fields=bearer("a")).replace(b"POST", b"GET", 1), 405),
        (get("/v1/models"), 401),
    ],
)
async def test_who_was_let_in_does_not_let_in_the_next(
    message: bytes, status: int, worker: RawWorker, client: RawClient
) -> None:
    good = post(fields=bearer("a"))
    assert (await client.ask(good)).status == 200
    assert (await client.ask(message)).status == status
    assert (await client.ask(good)).status == 200
    assert (await client.ask(message)).status == status
    assert len(worker.requests) == 2


async def test_who_was_refused_is_refused_again(client: RawClient) -> None:
    for _ in range(3):
        assert (await client.ask(post(fields=bearer("nobody")))).status == 401


async def test_each_request_says_its_own(worker: RawWorker, client: RawClient) -> None:
    """Fields, session, path, query, id and trace, when all else is alike."""
    trace = b"traceparent: 00-%032x-%016x-01\r\n"
    variants = [
        post(fields=bearer("c") + more, path=path)
        for path in ("/v1/completions", "/v1/completions?a=b", "/v1/embeddings")
        for more in (
            b"",
            b"X-A: 1\r\n",
            b"X-A: 2\r\n",
            b"X-Session-Id: s1\r\n",
            b"X-Session-Id: s2\r\n",
            b"X-Request-Id: one\r\n",
            b"X-Forwarded-For: 10.1.1.1\r\n",
            trace % (1, 1),
            trace % (2, 2),
        )
    ]
    for variant in variants * 2:
        assert (await client.ask(variant)).status == 200
    for variant, request in zip(variants * 2, worker.requests, strict=True):
        sent = variant.partition(b"\r\n\r\n")[0]
        assert request.request_line.split(b" ")[1] == sent.split(b" ")[1]
        assert (request.values(b"x-a") or [b""]) == [_value(sent, b"X-A: ")]
        assert (request.values(b"x-session-id") or [b""]) == [_value(sent, b"X-Session-Id: ")]
        assert (request.value(b"x-request-id") == b"one") == (b"X-Request-Id" in sent)
        assert (b"10.1.1.1" in request.value(b"x-forwarded-for")) == (b"10.1.1.1" in sent)
        traces = [value.split(b"-")[1] for value in request.values(b"traceparent")]
        assert (traces or [b""]) == [_value(sent, b"traceparent: 00-")[:32]]


def _value(head: bytes, start: bytes) -> bytes:
    return head.partition(start)[2].partition(b"\r\n")[0]


async def test_sessions_of_one_connection_are_kept_apart(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    workers = [await run_worker() for _ in range(4)]
    router = await run_router(*workers, routing=RoutingConfig(policy="session"))
    client = await router.client()
    for number in range(40):
        await client.ask(post(fields=b"X-Session-Id: s%d\r\n" % (number % 10)))
    places: dict[bytes, set[int]] = {}
    for place, worker in enumerate(workers):
        for request in worker.requests:
            places.setdefault(request.value(b"x-session-id"), set()).add(place)
    assert all(len(where) == 1 for where in places.values())
    assert len({place for where in places.values() for place in where}) > 1


async def test_a_reload_of_keys_voids_it(
    router: RunningRouter, worker: RawWorker, client: RawClient
) -> None:
    async def ask() -> Answer:
        return await client.ask(post(fields=bearer("a")))

    config = router.gateway.config
    assert (await ask()).status == 200
    router.gateway.configure(config, keys_file(b=""))
    assert (await ask()).status == 401
    router.gateway.configure(config, keys_file(a="models: [other]"))
    assert (await ask()).status == 403
    router.gateway.configure(config, keys_file(a=""))
    assert (await ask()).status == 200
    assert len(worker.requests) == 2


async def test_a_reload_of_limits_counts_from_the_next_request(
    router: RunningRouter, client: RawClient
) -> None:
    message = post(fields=bearer("c"))
    assert (await client.ask(message)).values(b"x-ratelimit-limit-requests") == []
    limited = RouterConfig(telemetry=QUIET, auth=AUTH, limits=LimitsConfig(requests_per_minute=5))
    router.gateway.configure(limited, MODELS)
    assert (await client.ask(message)).values(b"x-ratelimit-limit-requests") == [b"5"]


async def test_a_reload_changes_what_workers_are_sent(
    router: RunningRouter, worker: RawWorker, client: RawClient
) -> None:
    message = post(fields=bearer("a"))
    await client.ask(message)
    with_key = RouterConfig(telemetry=QUIET, auth=AUTH, upstream=UpstreamConfig(api_key="sk-w"))
    router.gateway.configure(with_key, MODELS)
    await client.ask(message)
    first, second = worker.requests
    assert first.values(b"authorization") == []
    assert second.values(b"authorization") == [b"Bearer sk-w"]
