"""`POST /v1/chat/completions`."""

from __future__ import annotations

import time
import uuid
from functools import partial

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shoal.errors import InvalidRequest
from shoal.openai.chat import ChatCompletionRequest
from shoal.openai.decode import decode_body

from .chat_format import ChatFormat
from .context import ServerContext
from .generation import choices_of
from .prompts import encode_chat
from .sampling import (
    resolve_max_tokens,
    resolve_num_choices,
    to_sampling_params,
)
from .schema import json_body
from .streaming import answer


def chat_routes(context: ServerContext) -> APIRouter:
    """The route, bound to an engine."""
    router = APIRouter()
    decoder = msgspec.json.Decoder(ChatCompletionRequest)

    @router.post("/v1/chat/completions", openapi_extra=json_body(ChatCompletionRequest))
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation."""
        raw = await request.body()
        body = decode_body(decoder, raw)
        context.require_model(body.model)
        _refuse_unsupported(body)
        tokenizer = context.engine.tokenizer
        num_choices = resolve_num_choices(
            body.n, num_prompts=1, max_choices=context.settings.max_choices
        )
        prompt = await context.text_threads.run(
            partial(
                encode_chat,
                body.messages,
                tokenizer,
                add_generation_prompt=body.add_generation_prompt,
                continue_final_message=body.continue_final_message,
                add_special_tokens=body.add_special_tokens,
                template_kwargs=body.chat_template_kwargs,
            ),
            num_bytes=len(raw),
        )
        param = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        params = to_sampling_params(
            body,
            max_tokens=resolve_max_tokens(
                getattr(body, param),
                default=None,
                num_prompt_tokens=len(prompt.token_ids),
                max_model_len=context.engine.max_model_len,
                param=param,
            ),
            logprobs=_num_logprobs(body),
            prompt_logprobs=body.prompt_logprobs,
        )
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        generations = choices_of(
            prompt,
            params,
            body=body,
            answer_id=answer_id,
            first_index=0,
            num_choices=num_choices,
        )
        answer_format = ChatFormat(
            answer_id=answer_id,
            created=int(time.time()),
            model=context.engine.model_name,
            tokenizer=tokenizer,
            report_logprobs=bool(body.logprobs),
            report_prompt_logprobs=body.prompt_logprobs is not None,
            report_token_ids=bool(body.return_token_ids),
            prompt_token_ids=prompt.token_ids,
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


def _num_logprobs(body: ChatCompletionRequest) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    return None


def _refuse_unsupported(body: ChatCompletionRequest) -> None:
    """Raises InvalidRequest for what would change the answer and is not there yet."""
    if body.tools and body.tool_choice != "none":
        raise _not_yet("tools", "Calling tools is")
    if body.functions:
        raise _not_yet("functions", "Calling functions is")
    if body.chat_template is not None:
        raise _not_yet("chat_template", "A chat template sent with the request is")
    if body.modalities and set(body.modalities) != {"text"}:
        raise _not_yet("modalities", f"Output other than text ({', '.join(body.modalities)}) is")
    if body.prompt_logprobs is not None and body.stream:
        raise InvalidRequest("prompt_logprobs does not work with stream.", param="prompt_logprobs")


def _not_yet(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{what} not supported yet.", param=param, code="unsupported_parameter")
