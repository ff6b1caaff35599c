"""Answers over ASGI, faults included: one response object a request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from shoal.engine.server.metrics import RequestMetrics

from .chunks import AnswerFormat, token_events
from .engine import Sequence
from .faults import Fault, FaultKind
from .observer import observe
from .pacer import Pacer

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
]
JSON_HEADERS = [(b"content-type", b"application/json")]


class Answer:
    """ASGI response of one sequence. A client that leaves frees the sequence at once."""

    def __init__(
        self,
        pacer: Pacer,
        sequence: Sequence,
        *,
        request_id: str,
        model: str,
        is_chat: bool,
        metrics: RequestMetrics,
        stream: bool,
        with_usage: bool,
        with_token_ids: bool,
        fault: Fault | None,
    ) -> None:
        self._pacer = pacer
        self._sequence = sequence
        self._request_id = request_id
        self._form = AnswerFormat(request_id, model, is_chat, sequence.request, with_token_ids)
        self._metrics = metrics
        self._stream = stream
        self._with_usage = with_usage
        self._fault = fault
        self._limit = sequence.num_wanted if fault is None else fault.after_tokens
        ends_early = fault is not None and fault.kind is FaultKind.WRONG_LENGTH
        self._finish_reason = "stop" if ends_early else "length"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-request-id", self._request_id.encode())]
        work = self._send_stream if self._stream else self._send_whole
        await until_disconnect(work(scope, send, headers), receive)

    async def _send_stream(
        self, scope: Scope, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS + headers}
        )
        opening = self._form.opening()  # with the first token: until then a prompt is computed
        first_frame, frame = self._form.token_frame(is_first=True), self._form.token_frame()
        num_sent = 0
        with observe(self._metrics, self._sequence) as observer:
            async with aclosing(self._pacer.tokens(self._sequence)) as batches:
                async for batch in batches:
                    batch = batch[: self._limit - num_sent]
                    if batch:
                        events = token_events(frame, batch)
                        if num_sent == 0:
                            events = opening + token_events(first_frame, batch[:1])
                            events += token_events(frame, batch[1:])
                        num_sent += len(batch)
                        observer.tokens(len(batch))
                        await send(_body(events))
                    if num_sent >= self._limit:
                        break
            await self._misbehave(scope)
            observer.finish(self._finish_reason)
        closing = self._form.closing(self._finish_reason, num_sent, with_usage=self._with_usage)
        await send(_body(closing if num_sent else opening + closing, more=False))

    async def _send_whole(
        self, scope: Scope, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        answer: list[int] = []
        with observe(self._metrics, self._sequence) as observer:
            async with aclosing(self._pacer.tokens(self._sequence)) as batches:
                async for batch in batches:
                    answer += batch[: self._limit - len(answer)]
                    observer.tokens(len(batch))
                    if len(answer) >= self._limit:
                        break
            await self._misbehave(scope)
            observer.finish(self._finish_reason)
        body = self._form.whole(answer, self._finish_reason)
        await send(
            {"type": "http.response.start", "status": 200, "headers": JSON_HEADERS + headers}
        )
        await send(_body(body, more=False))

    async def _misbehave(self, scope: Scope) -> None:
        """Do what the fault says instead of ending the answer."""
        kind = None if self._fault is None else self._fault.kind
        if kind is FaultKind.CUT:
            cut_connection(scope)
        if kind in (FaultKind.CUT, FaultKind.STALL):
            await asyncio.Event().wait()  # until the client is gone


def _body(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def cut_connection(scope: Scope) -> None:
    """Close the socket under the response; nothing without one (in tests of the app alone)."""
    transport = scope.get("shoal.transport")
    if transport is not None:
        transport.abort()


async def until_disconnect(work: Coroutine[Any, Any, object], receive: Receive) -> None:
    """Run `work`; when the client goes first, cancel it and wait for its end."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if not working.cancelled():
        working.result()  # raises what the work raised


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
