"""`POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

from functools import partial

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shoal.errors import InvalidRequest
from shoal.openai.decode import decode_body
from shoal.openai.tokenization import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)

from ..tokenizer.tokenizer import Tokenizer
from .context import ServerContext, json_response
from .interface import Engine
from .prompts import encode_chat
from .schema import json_body


def tokenize_routes(context: ServerContext) -> APIRouter:
    """The routes, bound to an engine."""
    router = APIRouter()
    tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
    detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)

    @router.post("/tokenize", openapi_extra=json_body(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        """Token ids of a text or a conversation."""
        raw = await request.body()
        body = decode_body(tokenize_decoder, raw)
        context.require_model(body.model)
        answer = await context.text_threads.run(
            partial(_tokenize, body, context.engine), num_bytes=len(raw)
        )
        return json_response(answer)

    @router.post("/detokenize", openapi_extra=json_body(DetokenizeRequest))
    async def detokenize(request: Request) -> Response:
        """The text of token ids."""
        raw = await request.body()
        body = decode_body(detokenize_decoder, raw)
        context.require_model(body.model)
        tokenizer = context.engine.tokenizer
        highest = max(body.tokens, default=0)
        if highest >= tokenizer.vocab_size:
            raise InvalidRequest(
                f"tokens has id {highest}, but the vocabulary ends at {tokenizer.vocab_size - 1}.",
                param="tokens",
            )
        text = await context.text_threads.run(
            partial(tokenizer.decode, body.tokens, skip_special_tokens=False),
            num_bytes=len(raw),
        )
        return json_response(DetokenizeResponse(text))

    return router


def _tokenize(body: TokenizeRequest, engine: Engine) -> TokenizeResponse:
    tokenizer = engine.tokenizer
    ids = _token_ids(body, tokenizer)
    strs = [tokenizer.token_str(token_id) for token_id in ids] if body.return_token_strs else None
    return TokenizeResponse(
        count=len(ids), max_model_len=engine.max_model_len, tokens=ids, token_strs=strs
    )


def _token_ids(body: TokenizeRequest, tokenizer: Tokenizer) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Send either prompt or messages.", param="prompt")
    if body.prompt is not None:
        add_special_tokens = body.add_special_tokens is not False
        return tokenizer.encode(body.prompt, add_special_tokens=add_special_tokens)
    return encode_chat(
        body.messages or [],
        tokenizer,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        add_special_tokens=body.add_special_tokens,
        template_kwargs=body.chat_template_kwargs,
    ).token_ids
