"""HTTP routes of a fake worker: vLLM's paths and shapes, and the fault switches."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import shoal
from shoal.errors import EngineUnavailable, InternalError, InvalidRequest
from shoal.openai.chat import ChatCompletionRequest, ChatMessage
from shoal.openai.completion import CompletionRequest
from shoal.openai.decode import decode_body
from shoal.openai.models import ModelCard, ModelList
from shoal.openai.tokenization import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)

from . import tokens
from .faults import Fault, FaultKind, Faults
from .stream import Answer, cut_connection, until_disconnect
from .worker import FakeWorker

DEFAULT_MAX_TOKENS = 16
T = TypeVar("T")


class FaultState(msgspec.Struct, kw_only=True):
    """Body of /faults, in both directions."""

    faults: list[Fault]
    counts: dict[str, int] = {}


_chat = msgspec.json.Decoder(ChatCompletionRequest)
_completion = msgspec.json.Decoder(CompletionRequest)
_tokenize = msgspec.json.Decoder(TokenizeRequest)
_detokenize = msgspec.json.Decoder(DetokenizeRequest)
_faults = msgspec.json.Decoder(FaultState)


def routes(worker: FakeWorker) -> list[Route]:
    """All routes of one worker."""
    api = _Routes(worker)
    return [
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/models", api.models),
        Route("/health", api.health),
        Route("/ready", api.health),
        Route("/version", api.version),
        Route("/metrics", api.metrics),
        Route("/tokenize", api.tokenize, methods=["POST"]),
        Route("/detokenize", api.detokenize, methods=["POST"]),
        Route("/faults", api.show_faults, methods=["GET"]),
        Route("/faults", api.set_faults, methods=["POST"]),
        Route("/kv_event_sources", api.kv_event_sources),
    ]


class _Routes:
    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker

    async def completions(self, request: Request) -> ASGIApp:
        body = decode_body(_completion, await request.body())
        prompt = body.prompt
        if isinstance(prompt, str):
            token_ids = tokens.encode(prompt)
        elif all(isinstance(token_id, int) for token_id in prompt):
            token_ids = [token_id for token_id in prompt if isinstance(token_id, int)]
        else:
            raise InvalidRequest("A fake worker takes one prompt a request.", param="prompt")
        return self._answer(request, body, token_ids, body.max_tokens, is_chat=False)

    async def chat(self, request: Request) -> ASGIApp:
        body = decode_body(_chat, await request.body())
        max_tokens = body.max_completion_tokens or body.max_tokens
        return self._answer(request, body, _chat_ids(body.messages), max_tokens, is_chat=True)

    def _answer(
        self,
        request: Request,
        body: ChatCompletionRequest | CompletionRequest,
        prompt: list[int],
        max_tokens: int | None,
        *,
        is_chat: bool,
    ) -> ASGIApp:
        worker = self._worker
        if body.n not in (None, 1):
            raise InvalidRequest("A fake worker gives one answer a request.", param="n")
        fault = worker.faults.draw()
        if fault is not None and (failure := _failure(fault)) is not None:
            return failure
        request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
        sequence = worker.submit(
            request_id,
            body.model,
            prompt,
            DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
        )
        options = body.stream_options
        return Answer(
            worker.pacer,
            sequence,
            request_id=request_id,
            model=worker.model_name,
            is_chat=is_chat,
            metrics=worker.metrics.requests,
            stream=bool(body.stream),
            with_usage=options is not None and bool(options.include_usage),
            with_token_ids=bool(body.return_token_ids),
            fault=fault,
        )

    async def models(self, request: Request) -> Response:
        worker = self._worker
        worker.check_ready()
        card = ModelCard(
            id=worker.model_name,
            created=worker.created,
            root=worker.model_name,
            max_model_len=worker.max_model_len,
        )
        return _json(ModelList(data=[card]))

    async def health(self, request: Request) -> Response:
        self._worker.check_ready()
        return Response()

    async def version(self, request: Request) -> Response:
        return _json({"version": shoal.__version__})

    async def metrics(self, request: Request) -> Response:
        return Response(self._worker.metrics.text(), media_type="text/plain; version=0.0.4")

    async def tokenize(self, request: Request) -> Response:
        body = decode_body(_tokenize, await request.body())
        if (body.prompt is None) == (body.messages is None):
            raise InvalidRequest("Give either prompt or messages.", param="prompt")
        ids = _chat_ids(body.messages) if body.messages else tokens.encode(body.prompt or "")
        return _json(
            TokenizeResponse(count=len(ids), max_model_len=self._worker.max_model_len, tokens=ids)
        )

    async def detokenize(self, request: Request) -> Response:
        body = decode_body(_detokenize, await request.body())
        return _json(DetokenizeResponse(tokens.decode(body.tokens)))

    async def show_faults(self, request: Request) -> Response:
        faults = self._worker.faults
        counts = {str(kind): count for kind, count in faults.counts.items()}
        return _json(FaultState(faults=list(faults.switches), counts=counts))

    async def set_faults(self, request: Request) -> Response:
        body = decode_body(_faults, await request.body())
        self._worker.faults = Faults(body.faults, seed=self._worker.settings.engine.seed)
        return await self.show_faults(request)

    async def kv_event_sources(self, request: Request) -> Response:
        settings = self._worker.settings
        return _json(
            {
                "enable_kv_cache_events": settings.kv_events_endpoint is not None,
                "publisher": "zmq",
                "endpoint": settings.kv_events_endpoint,
                "replay_endpoint": settings.kv_events_replay_endpoint,
                "topic": "",
                "block_size": settings.engine.block_size,
            }
        )


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _chat_ids(messages: list[ChatMessage]) -> list[int]:
    return tokens.encode(tokens.render_chat([(m.role, _text(m)) for m in messages]))


def _text(message: ChatMessage) -> str:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content)


def _failure(fault: Fault) -> ASGIApp | None:
    """The answer of a fault that takes the place of one; raises those that are plain errors."""
    match fault.kind:
        case FaultKind.ERROR:
            raise InternalError("A fault that was asked for.", code="fault")
        case FaultKind.OVERLOAD:
            raise EngineUnavailable("A fault that was asked for.", retry_after_s=1.0)
        case FaultKind.ABORT:
            return _Abort()
        case FaultKind.HANG:
            return _Hang()
        case _:
            return None


class _Abort:
    """Closes the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cut_connection(scope)
        await until_disconnect(asyncio.Event().wait(), receive)


class _Hang:
    """Never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await until_disconnect(asyncio.Event().wait(), receive)
