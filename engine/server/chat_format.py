"""Outputs of the engine as `chat.completion` objects."""

from __future__ import annotations

import msgspec

from shoal.openai.chat import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
)
from shoal.openai.sse import sse_event
from shoal.openai.usage import Usage

from ..output import RequestOutput
from ..tokenizer.tokenizer import Tokenizer
from .logprobs import chat_logprobs, prompt_logprobs


class ChatFormat:
    """One answer of `/v1/chat/completions`, whole or as a stream."""

    def __init__(
        self,
        *,
        answer_id: str,
        created: int,
        model: str,
        tokenizer: Tokenizer,
        report_logprobs: bool,
        report_prompt_logprobs: bool,
        report_token_ids: bool,
        prompt_token_ids: list[int],
    ) -> None:
        self._id = answer_id
        self._created = created
        self._model = model
        self._tokenizer = tokenizer
        self._report_logprobs = report_logprobs
        self._report_prompt_logprobs = report_prompt_logprobs
        self._report_token_ids = report_token_ids
        self._prompt_token_ids = prompt_token_ids if report_token_ids else msgspec.UNSET
        self._started: set[int] = set()
        """Choices whose role has been sent."""

    def response(self, outputs: list[RequestOutput], usage: Usage) -> ChatCompletion:
        """The whole answer; `outputs[i]` is all of choice i."""
        completion = ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[
                ChatChoice(
                    index=index,
                    message=AssistantMessage(content=output.text),
                    logprobs=self._logprobs(output),
                    finish_reason=output.finish_reason,
                    stop_reason=output.stop_reason,
                    token_ids=self._token_ids(output),
                )
                for index, output in enumerate(outputs)
            ],
            usage=usage,
            prompt_token_ids=self._prompt_token_ids,
        )
        if self._report_prompt_logprobs:
            completion.prompt_logprobs = prompt_logprobs(
                outputs[0].prompt_logprobs, self._tokenizer
            )
        return completion

    def events(self, index: int, output: RequestOutput, usage: Usage | None) -> bytes:
        """The role once per choice, then text as it comes; b"" when the output shows nothing."""
        role = b""
        if index not in self._started:
            self._started.add(index)
            role = self._chunk(
                [ChatChunkChoice(index=index, delta=ChatDelta(role="assistant", content=""))],
                usage,
                self._prompt_token_ids,
            )
        is_visible = output.text or output.finish_reason or output.logprobs
        if not (is_visible or (self._report_token_ids and output.token_ids)):
            return role
        choice = ChatChunkChoice(
            index=index,
            delta=ChatDelta(content=output.text),
            logprobs=self._logprobs(output),
            finish_reason=output.finish_reason,
            token_ids=self._token_ids(output),
        )
        if output.finish_reason is not None:
            choice.stop_reason = output.stop_reason
        return role + self._chunk([choice], usage)

    def usage_event(self, usage: Usage) -> bytes:
        """The chunk without choices that reports the usage."""
        return self._chunk([], usage)

    def _chunk(
        self,
        choices: list[ChatChunkChoice],
        usage: Usage | None,
        prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET,
    ) -> bytes:
        return sse_event(
            ChatCompletionChunk(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=choices,
                usage=msgspec.UNSET if usage is None else usage,
                prompt_token_ids=prompt_token_ids,
            )
        )

    def _token_ids(self, output: RequestOutput) -> list[int] | msgspec.UnsetType:
        return output.token_ids if self._report_token_ids else msgspec.UNSET

    def _logprobs(self, output: RequestOutput) -> ChatLogprobs | None:
        if not self._report_logprobs:
            return None
        return chat_logprobs(output.logprobs, self._tokenizer)
