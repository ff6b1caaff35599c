"""Whatever a client sends, a worker gets whole requests that all parsers read alike, or nothing."""

from __future__ import annotations

import h11
import pytest

from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import RawClient, get, post, until
from tests.router.proxy.raw_worker import OK, RawWorker, WorkerConnection
from tests.router.proxy.reference_parsers import Understood, by_h11, by_http_server
from tests.router.proxy.running_router import RunningRouter
from tests.router.proxy.smuggling_cases import ALL, BODY, Case

_PATH = "/v1/chat/completions"


class Recording:
    """A script that keeps every byte of a connection, in the order they came."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def __call__(self, connection: WorkerConnection) -> None:
        place = len(self.received)
        self.received.append(b"")
        while True:
            request = await connection.request()
            self.received[place] += request.raw
            await connection.send(OK)


async def test_the_parsers_of_these_tests_see_a_difference() -> None:
    two = post(BODY) + post(b"{}")
    assert by_h11(two) == by_http_server(two)
    assert [request.body for request in by_h11(two)] == [BODY, b"{}"]
    with pytest.raises(h11.RemoteProtocolError):
        by_h11(post(BODY, fields=b"X: y\0\r\n"))


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_a_message_with_two_readings(
    case: Case, run_worker: RunWorker, run_router: RunRouter
) -> None:
    recording = Recording()
    worker = await run_worker(recording)
    router = await run_router(worker)
    client = await router.client()
    client.send(case.message)
    await _check_answers(case, client, router)
    _check_worker(case, worker, recording)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_it_is_read_alike_when_it_comes_byte_by_byte(
    case: Case, run_worker: RunWorker, run_router: RunRouter
) -> None:
    recording = Recording()
    worker = await run_worker(recording)
    router = await run_router(worker)
    client = await router.client()
    await until(lambda: router.gateway.connections)
    connection = router.connection
    for byte in case.message:
        connection.data_received(bytes([byte]))
    await _check_answers(case, client, router)
    _check_worker(case, worker, recording)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_it_is_read_alike_after_requests_that_made_a_head_known(
    case: Case, run_worker: RunWorker, run_router: RunRouter
) -> None:
    recording = Recording()
    worker = await run_worker(recording)
    router = await run_router(worker)
    client = await router.client()
    for _ in range(2):
        assert (await client.ask(post(BODY))).status == 200
    client.send(case.message)
    await _check_answers(case, client, router)
    _check_worker(case._replace(forwarded=(BODY, BODY, *case.forwarded)), worker, recording)


async def _check_answers(case: Case, client: RawClient, router: RunningRouter) -> None:
    if case.waits:
        await until(lambda: router.gateway.connections and router.connection.reader.body)
        router.pass_time(router.gateway.bounds.body_timeout_s + 1)
    method = case.message.partition(b" ")[0].decode("latin-1")
    answers = [await client.answer(method) for _ in case.statuses]
    assert tuple(answer.status for answer in answers) == case.statuses
    for answer in answers:
        if answer.status >= 400 and method != "HEAD":
            assert answer.error["type"] == "invalid_request_error"
    if case.is_open:
        # Both sides agree where the next request begins.
        assert (await client.ask(get("/health"))).json() == {"status": "ok"}
    else:
        assert await client.ended()


def _check_worker(case: Case, worker: RawWorker, recording: Recording) -> None:
    assert tuple(request.body for request in worker.requests) == case.forwarded
    seen: list[Understood] = []
    for received in recording.received:
        assert by_h11(received) == by_http_server(received)
        seen += by_h11(received)
    assert [(request.method, request.target) for request in seen] == [
        ("POST", _PATH) for _ in case.forwarded
    ]
    for request in seen:
        names = [name for name, _ in request.fields]
        assert names.count("content-length") == names.count("host") == 1
        assert "transfer-encoding" not in names
        assert "x-evil" not in names
        assert ("x-request-id", "evil") not in request.fields
