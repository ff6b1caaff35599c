"""Outputs of the engine as `text_completion` objects."""

from __future__ import annotations

import msgspec

from shoal.openai.completion import CompletionChoice, CompletionLogprobs, CompletionResponse
from shoal.openai.sse import sse_event
from shoal.openai.usage import Usage

from ..output import RequestOutput
from ..tokenizer.tokenizer import Tokenizer
from .generation import Generation
from .logprobs import CompletionLogprobsColumns, prompt_logprobs
from .prompts import Prompt


class CompletionFormat:
    """One answer of `/v1/completions`, whole or as a stream."""

    def __init__(
        self,
        *,
        answer_id: str,
        created: int,
        model: str,
        tokenizer: Tokenizer,
        generations: list[Generation],
        echo: bool,
        report_prompt_logprobs: bool,
        report_token_ids: bool,
    ) -> None:
        self._id = answer_id
        self._created = created
        self._model = model
        self._tokenizer = tokenizer
        self._report_prompt_logprobs = report_prompt_logprobs
        self._to_echo = {g.index: g for g in generations} if echo else {}
        """Generations whose prompt has not been repeated yet."""
        self._report_token_ids = report_token_ids
        self._prompts_to_tell = {g.index: g.prompt for g in generations} if report_token_ids else {}
        """Prompts whose token ids have not been told yet."""
        self._columns = [
            CompletionLogprobsColumns(tokenizer) if g.params.logprobs is not None else None
            for g in generations
        ]

    def response(self, outputs: list[RequestOutput], usage: Usage) -> CompletionResponse:
        """The whole answer; `outputs[i]` is all of choice i."""
        return self._object([self._choice(i, output) for i, output in enumerate(outputs)], usage)

    def events(self, index: int, output: RequestOutput, usage: Usage | None) -> bytes:
        """One chunk; b"" when the output shows nothing."""
        choice = self._choice(index, output)
        if not (choice.text or choice.finish_reason or choice.logprobs or choice.token_ids):
            return b""
        return sse_event(self._object([choice], usage))

    def usage_event(self, usage: Usage) -> bytes:
        """The chunk without choices that reports the usage."""
        return sse_event(self._object([], usage))

    def _object(self, choices: list[CompletionChoice], usage: Usage | None) -> CompletionResponse:
        return CompletionResponse(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=choices,
            usage=msgspec.UNSET if usage is None else usage,
        )

    def _choice(self, index: int, output: RequestOutput) -> CompletionChoice:
        echoed = self._to_echo.pop(index, None)
        choice = CompletionChoice(
            index=index,
            text=output.text if echoed is None else self._text_of(echoed.prompt) + output.text,
            logprobs=self._logprobs(index, output, echoed),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
        )
        if self._report_token_ids:
            choice.token_ids = output.token_ids
            if (prompt := self._prompts_to_tell.pop(index, None)) is not None:
                choice.prompt_token_ids = prompt.token_ids
        if self._report_prompt_logprobs:
            choice.prompt_logprobs = prompt_logprobs(output.prompt_logprobs, self._tokenizer)
        return choice

    def _logprobs(
        self, index: int, output: RequestOutput, echoed: Generation | None
    ) -> CompletionLogprobs | None:
        columns = self._columns[index]
        if columns is None:
            return None
        # prompt_logprobs of the engine are for echo, unless they are reported by themselves.
        of_prompt = [] if self._report_prompt_logprobs else output.prompt_logprobs
        entries = [*of_prompt, *output.logprobs]
        first = None if echoed is None else echoed.prompt.token_ids[0]
        if not entries and first is None:
            return None
        return columns.columns(entries, first_token_id=first)

    def _text_of(self, prompt: Prompt) -> str:
        if prompt.text is not None:
            return prompt.text
        return self._tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
