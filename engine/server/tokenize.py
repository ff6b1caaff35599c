"""`POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

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

from .context import ServerContext, json_response
from .prompts import encode_text, read_chat
from .schema import json_body


def tokenize_routes(context: ServerContext) -> APIRouter:
    """The routes, bound to an engine."""
    router = APIRouter()
    tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
    detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)

    @router.post("/tokenize", openapi_extra=json_body(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        """Token ids of a text or a conversation."""
        body = decode_body(tokenize_decoder, await request.body())
        context.require_model(body.model)
        ids = await _token_ids(body, context)
        tokenizer = context.engine.tokenizer
        return json_response(
            TokenizeResponse(
                count=len(ids),
                max_model_len=context.engine.max_model_len,
                tokens=ids,
                token_strs=[tokenizer.token_str(i) for i in ids]
                if body.return_token_strs
                else None,
            )
        )

    @router.post("/detokenize", openapi_extra=json_body(DetokenizeRequest))
    async def detokenize(request: Request) -> Response:
        """The text of token ids."""
        body = decode_body(detokenize_decoder, await request.body())
        context.require_model(body.model)
        tokenizer = context.engine.tokenizer
        highest = max(body.tokens, default=0)
        if highest >= tokenizer.vocab_size:
            raise InvalidRequest(
                f"tokens has id {highest}, but the vocabulary ends at {tokenizer.vocab_size - 1}.",
                param="tokens",
            )
        text = await context.text_threads.run(
            lambda: tokenizer.decode(body.tokens, skip_special_tokens=False),
            num_chars=len(body.tokens),
        )
        return json_response(DetokenizeResponse(text))

    return router


async def _token_ids(body: TokenizeRequest, context: ServerContext) -> list[int]:
    tokenizer = context.engine.tokenizer
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Send either prompt or messages.", param="prompt")
    if body.prompt is not None:
        return await encode_text(
            body.prompt, tokenizer, context.text_threads, body.add_special_tokens is not False
        )
    prompt = await read_chat(
        body.messages or [],
        tokenizer=tokenizer,
        threads=context.text_threads,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        add_special_tokens=body.add_special_tokens,
        template_kwargs=body.chat_template_kwargs,
    )
    return prompt.token_ids
