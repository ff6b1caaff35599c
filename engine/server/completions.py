"""`POST /v1/completions`."""

from __future__ import annotations

import time
import uuid
from functools import partial

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shoal.errors import InvalidRequest
from shoal.openai.completion import CompletionRequest
from shoal.openai.decode import decode_body

from .completion_format import CompletionFormat
from .context import ServerContext
from .generation import Generation, choices_of
from .prompts import encode_prompts, split_prompt
from .sampling import (
    resolve_max_tokens,
    resolve_num_choices,
    to_sampling_params,
)
from .schema import json_body
from .streaming import answer

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for completions."""


def completion_routes(context: ServerContext) -> APIRouter:
    """The route, bound to an engine."""
    router = APIRouter()
    decoder = msgspec.json.Decoder(CompletionRequest)

    @router.post("/v1/completions", openapi_extra=json_body(CompletionRequest))
    async def create_completion(request: Request) -> Response:
        """Continue a prompt."""
        raw = await request.body()
        body = decode_body(decoder, raw)
        context.require_model(body.model)
        _refuse_unsupported(body)
        tokenizer = context.engine.tokenizer
        parts = split_prompt(body.prompt)
        num_choices = resolve_num_choices(
            body.n, num_prompts=len(parts), max_choices=context.settings.max_choices
        )
        prompts = await context.text_threads.run(
            partial(
                encode_prompts,
                parts,
                tokenizer,
                add_special_tokens=body.add_special_tokens is not False,
            ),
            num_bytes=len(raw),
        )
        answer_id = f"cmpl-{uuid.uuid4().hex}"
        generations: list[Generation] = []
        for prompt in prompts:
            params = to_sampling_params(
                body,
                max_tokens=resolve_max_tokens(
                    body.max_tokens,
                    default=DEFAULT_MAX_TOKENS,
                    num_prompt_tokens=len(prompt.token_ids),
                    max_model_len=context.engine.max_model_len,
                    param="max_tokens",
                ),
                logprobs=body.logprobs,
                prompt_logprobs=body.logprobs if body.echo else body.prompt_logprobs,
            )
            generations += choices_of(
                prompt,
                params,
                body=body,
                answer_id=answer_id,
                first_index=len(generations),
                num_choices=num_choices,
            )
        answer_format = CompletionFormat(
            answer_id=answer_id,
            created=int(time.time()),
            model=context.engine.model_name,
            tokenizer=tokenizer,
            generations=generations,
            echo=bool(body.echo),
            report_prompt_logprobs=body.prompt_logprobs is not None,
            report_token_ids=bool(body.return_token_ids),
        )
        return await answer(
            context,
            request,
            generations,
            answer_format=answer_format,
            choices_per_prompt=num_choices,
            body=body,
        )

    return router


def _refuse_unsupported(body: CompletionRequest) -> None:
    if body.suffix:
        raise InvalidRequest(
            "suffix is not supported: this server only continues a prompt.",
            param="suffix",
            code="unsupported_parameter",
        )
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequest(
            "best_of is not supported: ask for n choices with logprobs and pick the best.",
            param="best_of",
            code="unsupported_parameter",
        )
    if body.prompt_logprobs is not None and (body.stream or body.echo):
        raise InvalidRequest(
            "prompt_logprobs works neither with stream nor with echo; with echo use logprobs.",
            param="prompt_logprobs",
        )
