"""The chat box's way to the models: through the router's own API, like any other client.

The page cannot go there itself: that is another origin. What a user of the console may do with
models is what the key that they type in may do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.admin.body import read_body
from shoal.errors import EngineUnavailable, InvalidRequest, QueueFull
from shoal.web.disconnect import ClientDisconnected, abort_on_disconnect

from ..fleet.address import Address
from ..settings.listen import ListenConfig
from .answers import NO_STORE, json_answer

MAX_BODY_BYTES = 256 * 1024
MAX_CHATS = 8
"""At once; people chat, programs use the API."""
MAX_SECONDS = 600.0
MAX_ERROR_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_CUT = b'data: {"error": {"message": "The answer was cut off."}}\n\n'


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
    """The route to the router's API."""

    def __init__(self, listen: Callable[[], ListenConfig], port: int) -> None:
        """`listen`: as it is now, certificates may change. `port`: the one it has, where the
        configuration says "any"."""
        self._listen = listen
        self._port = port
        self._num_open = 0

    @property
    def url(self) -> str:
        """Of the API, from this machine."""
        listen = self._listen()
        host = _EVERYWHERE.get(listen.host, listen.host)
        return Address("http" if listen.tls is None else "https", host, self._port, "").url

    async def models(self, request: Request) -> Response:
        """`/v1/models` as the user's key sees it."""
        async with self._client() as client:
            try:
                answer = await client.get(
                    "/v1/models", headers=_key(request), timeout=_CONNECT_TIMEOUT_S
                )
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
        return json_answer(answer.content, status=answer.status_code)

    async def answer(self, request: Request) -> Response:
        """Stream an answer; the request to the model ends with that of the browser."""
        _check_is_json(request)
        body = _body(await read_body(request, MAX_BODY_BYTES))
        headers = {"content-type": "application/json", **_key(request)}
        return _Whole(lambda send: self._relay(body, headers, send))

    async def _relay(self, body: bytes, headers: dict[str, str], send: Send) -> None:
        if self._num_open >= MAX_CHATS:
            raise QueueFull(f"{MAX_CHATS} chats are open in the console.", retry_after_s=5.0)
        self._num_open += 1
        started = False
        try:
            async with (
                self._client() as client,
                client.stream(
                    "POST", "/v1/chat/completions", content=body, headers=headers
                ) as upstream,
            ):
                started = True
                await _pass_on(upstream, send)
        except httpx.HTTPError as error:
            if started:
                raise
            raise _unreachable(error) from error
        finally:
            self._num_open -= 1

    def _client(self) -> httpx.AsyncClient:
        """Raises EngineUnavailable where the API takes only clients with certificates."""
        tls = self._listen().tls
        if tls is not None and tls.client_ca is not None:
            raise EngineUnavailable(
                "The router takes only clients with certificates, and the console has none."
            )
        return httpx.AsyncClient(
            base_url=self.url,
            trust_env=False,
            verify=False if tls is None else _pinned(tls.certificate),
            timeout=httpx.Timeout(MAX_SECONDS, connect=_CONNECT_TIMEOUT_S),
        )


def _check_is_json(request: Request) -> None:
    """A page of another origin cannot send this content type without asking first."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise InvalidRequest("Send JSON, with 'Content-Type: application/json'.")


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


class _Whole(Response):
    """What a coroutine sends; cancelled when the browser leaves, or it takes too long."""

    def __init__(self, respond: Callable[[Send], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnected, TimeoutError):
            async with asyncio.timeout(MAX_SECONDS), abort_on_disconnect(receive):
                await self._respond(send)


async def _pass_on(upstream: httpx.Response, send: Send) -> None:
    """Events as they come; an error as a whole."""
    if upstream.status_code != httpx.codes.OK:
        content = await _first_bytes(upstream)
        await _sent(send, json_answer(content, status=upstream.status_code), content)
        return
    head = Response(
        media_type="text/event-stream",
        headers={**NO_STORE, "x-request-id": upstream.headers.get("x-request-id", "")},
    )
    del head.headers["content-length"]
    await _sent(send, head)
    try:
        async for chunk in upstream.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except httpx.HTTPError:
        await send({"type": "http.response.body", "body": _CUT, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _sent(send: Send, head: Response, body: bytes | None = None) -> None:
    """Send a head, and what belongs to it where that is all."""
    await send(
        {"type": "http.response.start", "status": head.status_code, "headers": head.raw_headers}
    )
    if body is not None:
        await send({"type": "http.response.body", "body": body})


async def _first_bytes(upstream: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in upstream.aiter_bytes():
        content += chunk
        if len(content) >= MAX_ERROR_BYTES:
            break
    return bytes(content[:MAX_ERROR_BYTES])


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
