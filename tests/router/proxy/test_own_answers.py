"""What the router says itself: errors in OpenAI's shape, limits, probes."""

from __future__ import annotations

import pytest

import shoal
from shoal.router.settings.protection import BandConfig, FlowControlConfig, LimitsConfig
from tests.router.compiled_mode import replaces_methods
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.keys import AUTH, bearer, keys_file
from tests.router.proxy.raw_client import get, post, until
from tests.router.proxy.raw_worker import WorkerConnection
from tests.router.proxy.running_router import record

FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"


@pytest.mark.parametrize(
    ("message", "status", "kind", "code", "param"),
    [
        (get("/nothing"), 404, "invalid_request_error", "not_found", None),
        (post(path="/sleep"), 404, "invalid_request_error", "not_found", None),
        (get("/v1/chat/completions"), 405, "invalid_request_error", "method_not_allowed", None),
        (post(path="/v1/models"), 405, "invalid_request_error", "method_not_allowed", None),
        (get("/v1/models/x"), 404, "invalid_request_error", "model_not_found", "model"),
        (post(b""), 400, "invalid_request_error", "invalid_json", None),
        (post(b"{"), 400, "invalid_request_error", "invalid_json", None),
        (post(b"[]"), 400, "invalid_request_error", "invalid_type", None),
        (post(b"nul"), 400, "invalid_request_error", "invalid_json", None),
        (post(b'{"model":"m"} x'), 400, "invalid_request_error", "invalid_json", None),
        (post(b'{"model":1}'), 400, "invalid_request_error", "invalid_type", "model"),
        (post(b'{"model":""}'), 400, "invalid_request_error", "invalid_type", "model"),
        (post(b'{"model":"\xff"}'), 400, "invalid_request_error", "invalid_json", None),
        (post(b'{"model":"x"}'), 404, "invalid_request_error", "model_not_found", "model"),
        (post(b"{}"), 400, "invalid_request_error", None, "model"),
        (post(b'{"x":' + b"[" * 100_000), 400, "invalid_request_error", "invalid_json", None),
        (post(b"x", fields=FORM), 400, "invalid_request_error", "invalid_form", None),
    ],
)
async def test_a_mistake_of_the_client(
    message: bytes, status: int, kind: str, code: str | None, param: str | None,
    run_router: RunRouter,
) -> None:  # fmt: skip
    router = await run_router(record("http://127.0.0.1:9", "m", "n"))
    client = await router.client()
    got = await client.ask(message)
    assert got.status == status
    assert (got.error["type"], got.error["code"], got.error["param"]) == (kind, code, param)
    assert got.values(b"x-request-id")
    assert (await client.ask(get("/health"))).status == 200  # and the connection goes on


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (b"", 401, "invalid_api_key"),
        (b"Authorization: Bearer sk-nobody\r\n", 401, "invalid_api_key"),
        (b"Authorization: Basic eDp5\r\n", 401, "invalid_api_key"),
        (bearer("small"), 403, "model_not_allowed"),
        (bearer("all"), 200, None),
        (b"X-Api-Key: sk-all\r\n", 200, None),
    ],
)
async def test_keys(
    fields: bytes, status: int, code: str | None, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    keys = keys_file(all="", small="models: [other]")
    router = await run_router(worker, keys=keys, auth=AUTH)
    client = await router.client()
    got = await client.ask(post(fields=fields))
    assert got.status == status
    if code is not None:
        assert got.error["code"] == code
        assert worker.requests == []
    assert (got.values(b"www-authenticate") == [b"Bearer"]) == (status == 401)


async def test_a_key_is_asked_for_before_anything_is_said(run_router: RunRouter) -> None:
    router = await run_router(record("http://127.0.0.1:9"), keys=keys_file(a=""), auth=AUTH)
    client = await router.client()
    for message in (get("/v1/models"), post(b"{"), post(b'{"model":"x"}'), get("/v1/completions")):
        assert (await client.ask(message)).status == 401
    for path in ("/health", "/ready", "/ping", "/version"):
        assert (await client.ask(get(path))).status == 200


async def test_requests_a_minute(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, keys=keys_file(a="requests_per_minute: 2", b=""), auth=AUTH)
    client = await router.client()
    left = []
    for _ in range(2):
        got = await client.ask(post(fields=bearer("a")))
        assert got.status == 200
        assert got.value(b"x-ratelimit-limit-requests") == b"2"
        left.append(got.value(b"x-ratelimit-remaining-requests"))
    assert left == [b"1", b"0"]
    got = await client.ask(post(fields=bearer("a")))
    assert got.status == 429
    assert got.error["code"] == "rate_limit_exceeded"
    assert got.error["type"] == "rate_limit_error"
    assert 1 <= int(got.value(b"retry-after")) <= 60
    other = await client.ask(post(fields=bearer("b")))
    assert other.status == 200
    assert not [name for name, _ in other.fields if name.startswith(b"x-ratelimit")]
    router.pass_time(61.0)
    assert (await client.ask(post(fields=bearer("a")))).status == 200


async def test_tokens_a_minute(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, limits=LimitsConfig(tokens_per_minute=100))
    client = await router.client()
    got = await client.ask(post(b'{"model":"m","prompt":"x","max_tokens":5000}'))
    assert got.status == 429
    assert got.error["code"] == "request_too_large"
    assert got.values(b"retry-after") == []
    got = await client.ask(post(b'{"model":"m","prompt":"x","max_tokens":50}'))
    assert got.status == 200
    assert got.value(b"x-ratelimit-limit-tokens") == b"100"


async def test_requests_at_a_time(run_worker: RunWorker, run_router: RunRouter) -> None:
    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()

    worker = await run_worker(script)
    router = await run_router(worker, limits=LimitsConfig(max_parallel_requests=1))
    first, second = await router.client(), await router.client()
    first.send(post())
    await until(lambda: worker.requests)
    got = await second.ask(post())
    assert got.status == 429
    assert got.values(b"retry-after")
    first.close()
    await until(lambda: not router.gateway.attempts)
    second.send(post())
    await until(lambda: len(worker.requests) == 2)


async def test_a_full_queue_and_one_that_takes_too_long(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()

    worker = await run_worker(script)
    flow = FlowControlConfig(
        bands=(BandConfig(name="only", priority=0, max_queued=1, deadline_s=10.0),),
        adaptive_concurrency=False,
        min_concurrency=1,
        max_concurrency=1,
    )
    router = await run_router(worker, flow_control=flow)
    running, waiting, refused = [await router.client() for _ in range(3)]
    running.send(post())
    await until(lambda: worker.requests)
    waiting.send(post())
    await until(lambda: len(router.gateway.dispatcher.queue) == 1)
    got = await refused.ask(post())
    assert (got.status, got.error["code"]) == (429, "queue_full")
    assert int(got.value(b"retry-after")) >= 1
    router.pass_time(11.0)
    got = await waiting.answer()
    assert (got.status, got.error["code"]) == (503, "queue_timeout")
    assert int(got.value(b"retry-after")) >= 1
    assert len(worker.requests) == 1


async def test_no_worker_comes_in_time(run_router: RunRouter) -> None:
    flow = FlowControlConfig(hold_without_endpoint_s=5.0)
    router = await run_router(record("http://127.0.0.1:9", status="starting"), flow_control=flow)
    client = await router.client()
    client.send(post())
    await until(lambda: len(router.gateway.dispatcher.queue) == 1)
    router.pass_time(6.0)
    got = await client.answer()
    assert (got.status, got.error["code"]) == (503, "no_endpoint")
    assert int(got.value(b"retry-after")) >= 1


async def test_no_worker_listens(run_router: RunRouter) -> None:
    router = await run_router(record("http://127.0.0.1:9"), record("http://127.0.0.1:10"))
    client = await router.client()
    got = await client.ask(post())
    assert (got.status, got.error["code"]) == (502, "bad_gateway")


async def test_a_worker_that_never_begins(run_worker: RunWorker, run_router: RunRouter) -> None:
    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post(b'{"model":"m","stream":true}'))
    for number in range(1, 5):
        await until(lambda number=number: len(worker.requests) == number)
        router.pass_time(router.gateway.config.upstream.first_byte_timeout_s + 1)
    got = await client.answer()
    assert (got.status, got.error["code"]) == (504, "gateway_timeout")


@replaces_methods
async def test_a_fault_of_ours_is_one_answer(
    run_router: RunRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = await run_router(record("http://127.0.0.1:9"))
    client = await router.client()
    monkeypatch.setattr(router.gateway, "session_in", lambda _: 1 / 0)
    got = await client.ask(post())
    assert (got.status, got.error["code"]) == (500, "internal_error")
    assert (await client.ask(get("/health"))).status == 200


async def test_probes(run_router: RunRouter) -> None:
    router = await run_router()
    client = await router.client()
    for path in ("/health", "/ready", "/ping"):
        assert (await client.ask(get(path))).json() == {"status": "ok"}
    assert (await client.ask(get("/version"))).json() == {"version": shoal.__version__}
    router.gateway.is_draining = True
    got = await client.ask(get("/ready"))
    assert (got.status, got.json()) == (503, {"status": "draining"})
