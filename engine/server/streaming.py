"""Answers as they go over the wire: one JSON body, or a stream of server-sent events.

The header of a stream waits for the first output, so that a refusal (queue full, prompt too
long) still is a proper HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shoal.errors import EngineUnavailable, InternalError, RequestError
from shoal.openai.error import error_body
from shoal.openai.fields import GenerationFields
from shoal.openai.sse import DONE, sse_event
from shoal.openai.usage import Usage
from shoal.web.disconnect import ClientDisconnected, abort_on_disconnect

from ..output import RequestOutput
from .access_log import add_log_fields
from .context import ServerContext, json_response
from .generation import Generation, TokenCounts, join_outputs, run_generations

_log = structlog.get_logger(__name__)

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]


class AnswerFormat(Protocol):
    """Turns outputs into the objects of one route (completions or chat)."""

    def response(self, outputs: list[RequestOutput], usage: Usage) -> msgspec.Struct:
        """The whole answer; `outputs[i]` is all of choice i."""

    def events(self, index: int, output: RequestOutput, usage: Usage | None) -> bytes:
        """The events for one output; b"" when it has nothing a client can see."""

    def usage_event(self, usage: Usage) -> bytes:
        """The event without choices that reports the usage."""


@dataclass(frozen=True, slots=True)
class StreamFlags:
    """What a stream reports besides text."""

    include_usage: bool
    continuous_usage: bool

    @classmethod
    def of(cls, body: GenerationFields) -> StreamFlags:
        """From `stream_options`."""
        options = body.stream_options
        include_usage = bool(options and options.include_usage)
        continuous = bool(options and options.continuous_usage_stats)
        return cls(include_usage, include_usage and continuous)


async def answer(
    context: ServerContext,
    request: Request,
    generations: list[Generation],
    *,
    answer_format: AnswerFormat,
    choices_per_prompt: int,
    body: GenerationFields,
) -> Response:
    """Run the generations and answer. Raises RequestError and ClientDisconnected."""
    metrics = context.metrics.requests
    metrics.params_n.observe(choices_per_prompt)
    counts = TokenCounts(generations, choices_per_prompt=choices_per_prompt)
    add_log_fields(request.scope, counts.log_fields)
    outputs = run_generations(context.engine, generations, metrics=metrics, counts=counts)
    if not body.stream:
        async with abort_on_disconnect(request.receive), aclosing(outputs):
            whole = await _collect(outputs, num_choices=len(generations))
        return json_response(answer_format.response(whole, counts.usage()))
    events = _events(outputs, answer_format, counts, StreamFlags.of(body))
    async with abort_on_disconnect(request.receive):
        first = await anext(events)
    return EventStream(first, events)


async def _collect(
    outputs: AsyncGenerator[tuple[int, RequestOutput], None], *, num_choices: int
) -> list[RequestOutput]:
    deltas: list[list[RequestOutput]] = [[] for _ in range(num_choices)]
    async for index, output in outputs:
        deltas[index].append(output)
    return [join_outputs(parts) for parts in deltas]


async def _events(
    outputs: AsyncGenerator[tuple[int, RequestOutput], None],
    answer_format: AnswerFormat,
    counts: TokenCounts,
    flags: StreamFlags,
) -> AsyncGenerator[bytes, None]:
    async with aclosing(outputs):
        async for index, output in outputs:
            usage = counts.usage() if flags.continuous_usage else None
            yield answer_format.events(index, output, usage)
    if flags.include_usage:
        yield answer_format.usage_event(counts.usage())
    yield DONE


class EventStream(Response):
    """Sends events as they come; an error after the header is the last event, without `[DONE]`."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._first = first
        self._rest = rest
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events. Raises ClientDisconnected; what ran is aborted then."""
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            last = b""
            try:
                async with abort_on_disconnect(receive):
                    if self._first:
                        await _send_part(send, self._first)
                    async for events in self._rest:
                        if events:
                            await _send_part(send, events)
            except RequestError as error:
                last = sse_event(error_body(error))
            except asyncio.CancelledError:
                # The server's drain timeout is over; it closes the connection after us.
                last = sse_event(error_body(EngineUnavailable("The server is shutting down.")))
            except ClientDisconnected:
                raise
            except Exception:
                _log.exception("http.stream_fault")
                last = sse_event(error_body(InternalError("The server made a mistake.")))
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
