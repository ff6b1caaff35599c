"""The way of the chat box to the models: what passes, what is bounded, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shoal.router.console import chat as module
from shoal.router.console.chat import MAX_BODY_BYTES, Chat
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.listen import ListenConfig, TLSConfig
from tests.router.access.certificates import Authority
from tests.router.console.serving import console, serving
from tests.router.console.stage import StagedRouter

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


class API:
    """A router's API that does as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, Any]] = []
        self.status = 200
        self.pieces = 2
        self.waits = asyncio.Event()
        self.waits.set()
        self.holds = False
        self.num_left = 0
        self.app = Starlette(routes=[
            Route("/v1/chat/completions", self.answer, methods=["POST"]),
            Route("/v1/models", self.models),
        ])  # fmt: skip

    async def models(self, request: Request) -> Response:
        return JSONResponse({"key": request.headers.get("authorization")})

    async def answer(self, request: Request) -> Response:
        self.asked.append((request.headers.get("authorization"), await request.json()))
        while self.holds:
            if await request.is_disconnected():
                self.num_left += 1
                break
            await asyncio.sleep(0.01)
        if self.status != 200:
            return JSONResponse({"error": {"message": "no such model"}}, self.status)

        async def events() -> AsyncIterator[bytes]:
            try:
                for number in range(self.pieces):
                    yield b'data: {"n": %d}\n\n' % number
                await self.waits.wait()
                yield b"data: [DONE]\n\n"
            except asyncio.CancelledError:
                self.num_left += 1
                raise

        return StreamingResponse(
            events(), media_type="text/event-stream", headers={"x-request-id": "r-1"}
        )


@pytest.fixture
async def api() -> AsyncIterator[API]:
    found = API()
    yield found
    found.waits.set()


@pytest.fixture
async def client(api: API) -> AsyncIterator[httpx.AsyncClient]:
    router = StagedRouter()
    async with (
        serving(api.app) as router.api_port,
        console(router) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as found,
    ):
        yield found


async def test_an_answer_streams_through(api: API, client: httpx.AsyncClient) -> None:
    answer = await client.post("/console/chat", json=QUESTION, headers={"x-api-key": "sk-1"})
    assert answer.status_code == 200
    assert answer.text == 'data: {"n": 0}\n\ndata: {"n": 1}\n\ndata: [DONE]\n\n'
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert api.asked == [
        ("Bearer sk-1", {**QUESTION, "max_tokens": 512, "temperature": 0.7, "stream": True,
                         "stream_options": {"include_usage": True}})
    ]  # fmt: skip


async def test_the_admin_key_goes_no_further(api: API, client: httpx.AsyncClient) -> None:
    await client.post("/console/chat", json=QUESTION, headers={"authorization": "Bearer admin"})
    assert api.asked[0][0] is None
    assert (await client.get("/console/chat/models")).json() == {"key": None}
    keyed = {"x-api-key": "sk-1"}
    assert (await client.get("/console/chat/models", headers=keyed)).json() == {
        "key": "Bearer sk-1"
    }


async def test_what_the_api_refuses_is_passed_on(api: API, client: httpx.AsyncClient) -> None:
    api.status = 404
    answer = await client.post("/console/chat", json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "no such model")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"model": "m"}', b'{"model": "m", "messages": [{"role": "root"}]}',
        b'{"model": "m", "messages": [], "tools": []}',
    ],
)  # fmt: skip
async def test_what_is_no_chat_is_refused(api: API, client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(
        "/console/chat", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert api.asked == []


async def test_forms_of_other_pages_are_refused(api: API, client: httpx.AsyncClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await client.post(
            "/console/chat", content=b"{}", headers={"content-type": content_type}
        )
        assert answer.status_code == 400
        assert "Content-Type" in answer.json()["error"]["message"]
    answer = await client.post("/console/chat", json={**QUESTION, "model": "m" * MAX_BODY_BYTES})
    assert answer.status_code == 413
    assert api.asked == []


async def test_a_browser_that_leaves_ends_the_request(api: API, client: httpx.AsyncClient) -> None:
    api.waits.clear()
    async with client.stream("POST", "/console/chat", json=QUESTION) as answer:
        async for line in answer.aiter_lines():
            if line == 'data: {"n": 1}':
                break
    await left(api)


async def test_one_that_leaves_while_its_request_is_held_ends_it_too(
    api: API, client: httpx.AsyncClient
) -> None:
    api.holds = True
    asking = asyncio.create_task(client.post("/console/chat", json=QUESTION))
    async with asyncio.timeout(60):
        while not api.asked:  # noqa: ASYNC110 - at the other end of a connection
            await asyncio.sleep(0.01)
    asking.cancel()
    await left(api)


async def left(api: API) -> None:
    async with asyncio.timeout(60):
        while not api.num_left:  # noqa: ASYNC110 - at the other end of a connection
            await asyncio.sleep(0.01)


async def test_so_many_at_once(
    api: API, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CHATS", 1)
    api.waits.clear()
    async with client.stream("POST", "/console/chat", json=QUESTION) as first:
        assert first.status_code == 200
        answer = await client.post("/console/chat", json=QUESTION)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        api.waits.set()
        await first.aread()
    async with asyncio.timeout(60):  # its place is free a moment after its last byte
        while (await client.post("/console/chat", json=QUESTION)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    api.status = 500
    for _ in range(3):  # failures give their place back, too
        assert (await client.post("/console/chat", json=QUESTION)).status_code == 500


async def test_it_does_not_go_on_for_ever(
    api: API, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 0.2)
    api.waits.clear()
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/console/chat", json=QUESTION)


async def test_an_api_that_is_not_there() -> None:
    router = StagedRouter()
    router.api_port = 1
    async with console(router) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for answer in (
            await client.post("/console/chat", json=QUESTION),
            await client.get("/console/chat/models"),
        ):
            assert answer.status_code == 503
            assert "does not answer" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"), ("0.0.0.0", "http://127.0.0.1:9"),
        ("::", "http://[::1]:9"), ("10.0.0.3", "http://10.0.0.3:9"),
    ],
)  # fmt: skip
def test_where_the_api_is(host: str, url: str) -> None:
    assert Chat(lambda: ListenConfig(host=host), 9).url == url


async def test_clients_with_certificates_only() -> None:
    tls = TLSConfig(certificate="a.pem", key="b.pem", client_ca="c.pem")
    chat = Chat(lambda: ListenConfig(tls=tls), 9)
    with pytest.raises(module.EngineUnavailable, match="certificates"):
        await chat.models(Request({"type": "http", "headers": []}))


async def test_an_api_with_tls_is_known_by_its_own_certificate(api: API, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    right, wrong = authority.issue("one"), authority.issue("another")
    served = {"ssl_certfile": right.certificate, "ssl_keyfile": right.key}
    router = StagedRouter()
    async with (
        serving(api.app, **served) as router.api_port,
        console(router) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client,
    ):
        for pair, status in ((right, 200), (wrong, 503)):
            tls = TLSConfig(certificate=pair.certificate, key=pair.key)
            router.settings = RouterConfig(listen=ListenConfig(tls=tls))
            assert (await client.post("/console/chat", json=QUESTION)).status_code == status
            assert (await client.get("/console/chat/models")).status_code == status
