"""The chat box's way to the models: through the router's own API, like any other client.

The page cannot go there itself: that is another origin. What a user of the console may do with
models is what the key that they type in may do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.errors import EngineUnavailable, InvalidRequest, PayloadTooLarge, QueueFull

from ..settings.listen import ListenConfig

MAX_BODY_BYTES = 256 * 1024
MAX_CHATS = 8
"""At once; people chat, programs use the API."""
MAX_SECONDS = 600.0
MAX_ERROR_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_CUT = b'data: {"error": {"message": "The answer was cut off."}}\n\n'
_NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the chat box sends."""

    model: str
    messages: list[Turn]
    max_tokens: int = 512
    temperature: float = 0.7


class Chat:
    """Owns the connections to the router's API."""

    def __init__(self, listen: ListenConfig, port: int) -> None:
        """`port`: the one it has, where the configuration says "any"."""
        self._listen = listen
        host = _EVERYWHERE.get(listen.host, listen.host)
        host = f"[{host}]" if ":" in host else host
        scheme = "http" if listen.tls is None else "https"
        self.url = f"{scheme}://{host}:{port}"
        self._client: httpx.AsyncClient | None = None
        self._num_open = 0

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def models(self, request: Request) -> Response:
        """`/v1/models` as the user's key sees it."""
        try:
            answer = await self._connected().get(
                "/v1/models", headers=_key(request), timeout=_CONNECT_TIMEOUT_S
            )
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        return _relayed(answer.status_code, answer.content[:MAX_ERROR_BYTES])

    async def answer(self, request: Request) -> Response:
        """Stream an answer; the request to the model ends with that of the browser."""
        body = _body(await read(request, MAX_BODY_BYTES))
        if self._num_open >= MAX_CHATS:
            raise QueueFull(f"{MAX_CHATS} chats are open in the console.", retry_after_s=5.0)
        self._num_open += 1
        try:
            upstream = await self._send(body, request)
        except BaseException:
            self._num_open -= 1
            raise
        if upstream.status_code != httpx.codes.OK:
            try:
                content = await _first_bytes(upstream)
            finally:
                await self._end(upstream)
            return _relayed(upstream.status_code, content)
        return _Relay(upstream, self._end)

    async def _send(self, body: bytes, request: Request) -> httpx.Response:
        client = self._connected()
        headers = {"content-type": "application/json", **_key(request)}
        made = client.build_request("POST", "/v1/chat/completions", content=body, headers=headers)
        try:
            return await client.send(made, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    async def _end(self, upstream: httpx.Response) -> None:
        self._num_open -= 1
        await upstream.aclose()

    def _connected(self) -> httpx.AsyncClient:
        """Raises EngineUnavailable where the API takes only clients with certificates."""
        if self._client is None:
            tls = self._listen.tls
            if tls is not None and tls.client_ca is not None:
                raise EngineUnavailable(
                    "The router takes only clients with certificates, and the console has none."
                )
            self._client = httpx.AsyncClient(
                base_url=self.url,
                trust_env=False,
                verify=True if tls is None else _pinned(tls.certificate),
                timeout=httpx.Timeout(MAX_SECONDS, connect=_CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=MAX_CHATS + 4),
            )
        return self._client


async def read(request: Request, max_bytes: int) -> bytes:
    """The body of a JSON request. Raises InvalidRequest and PayloadTooLarge.

    A page of another origin cannot send this content type without asking first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise InvalidRequest("Send JSON, with 'Content-Type: application/json'.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise PayloadTooLarge(f"The body is over {max_bytes} bytes.")
    return bytes(body)


def _body(sent: bytes) -> bytes:
    try:
        chat = msgspec.json.decode(sent, type=ChatRequest)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"Not a chat: {error}") from None
    return msgspec.json.encode(
        {
            **msgspec.structs.asdict(chat),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


def _key(request: Request) -> dict[str, str]:
    """`authorization` is the admin key's place, so the user's own comes as `x-api-key`."""
    key = request.headers.get("x-api-key", "")
    return {"authorization": f"Bearer {key}"} if key else {}


class _Relay(Response):
    """An answer as it comes; when the browser leaves, or takes too long, the model is told."""

    def __init__(
        self, upstream: httpx.Response, on_end: Callable[[httpx.Response], Awaitable[None]]
    ) -> None:
        super().__init__(
            media_type="text/event-stream",
            headers={**_NO_STORE, "x-request-id": upstream.headers.get("x-request-id", "")},
        )
        del self.headers["content-length"]
        self._upstream = upstream
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = {
            asyncio.create_task(self._relay(send)),
            asyncio.create_task(_left(receive)),
        }
        try:
            await asyncio.wait(tasks, timeout=MAX_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._on_end(self._upstream)

    async def _relay(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        try:
            async for chunk in self._upstream.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.HTTPError:
            await send({"type": "http.response.body", "body": _CUT, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_bytes(upstream: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in upstream.aiter_bytes():
        content += chunk
        if len(content) >= MAX_ERROR_BYTES:
            break
    return bytes(content[:MAX_ERROR_BYTES])


def _relayed(status: int, content: bytes) -> Response:
    return Response(content, status_code=status, media_type="application/json", headers=_NO_STORE)


def _unreachable(error: httpx.HTTPError) -> EngineUnavailable:
    return EngineUnavailable(
        f"The router's API does not answer ({type(error).__name__}).", retry_after_s=1.0
    )


def _pinned(certificate: str) -> ssl.SSLContext:
    """Trusts the listener's own certificate and no other; its name need not be this address."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
