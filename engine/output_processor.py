"""One request's tokens on their way to text: detokenized, cut at stop strings, made a delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .core.output import Started, TokenLogprobs
from .core.request import FinishReason
from .core.sampling_params import SamplingParams
from .output import RequestOutput
from .stop_strings import StopStringMatcher
from .tokenizer.detokenizer import IncrementalDetokenizer


class OutputProcessor:
    """Turns what the core says of one request into `RequestOutput`s, in step order."""

    def __init__(self, detokenizer: IncrementalDetokenizer, params: SamplingParams) -> None:
        self._detokenizer = detokenizer
        self._params = params
        self._stop = (
            StopStringMatcher(params.stop, include_in_output=params.include_stop_str_in_output)
            if params.stop
            else None
        )
        self._num_output_tokens = 0
        self._num_cached_tokens = 0
        self._queue_s: float | None = None
        self._prompt_logprobs: list[TokenLogprobs] = []

    def start(self, started: Started) -> None:
        """The request got its first step; goes out with its first output."""
        self._queue_s = started.queue_s
        self._num_cached_tokens = started.num_cached_tokens

    def add_prompt_logprobs(self, logprobs: Sequence[TokenLogprobs]) -> None:
        """Of one prefill chunk; they go out with the first output after it."""
        self._prompt_logprobs += logprobs

    def process(
        self,
        token_ids: list[int],
        *,
        finish_reason: FinishReason | None,
        logprobs: Sequence[TokenLogprobs] = (),
    ) -> RequestOutput:
        """The delta of one step. It has a finish reason too when a stop string ended it here."""
        self._num_output_tokens += len(token_ids)
        reason: Literal["stop", "length", "abort"] | None = None
        stop_reason: str | int | None = None
        shown = token_ids
        if finish_reason is FinishReason.STOP:
            reason = "stop"
            if token_ids[-1] in self._params.stop_token_ids:
                stop_reason = token_ids[-1]
            if not self._params.include_stop_str_in_output:
                shown = token_ids[:-1]
        elif finish_reason is not None:
            reason = "length" if finish_reason is FinishReason.LENGTH else "abort"

        text = self._detokenizer.append(shown) if shown else ""
        if reason is not None:
            text += self._detokenizer.finish()
        if self._stop is not None and self._num_output_tokens >= self._params.min_tokens:
            text, stop_string = self._stop.feed(text)
            if stop_string is not None:
                reason, stop_reason = "stop", stop_string
            elif reason is not None:
                text += self._stop.finish()

        queue_s, self._queue_s = self._queue_s, None
        prompt_logprobs, self._prompt_logprobs = self._prompt_logprobs, []
        return RequestOutput(
            text=text,
            token_ids=token_ids,
            finish_reason=reason,
            stop_reason=stop_reason,
            logprobs=list(logprobs),
            prompt_logprobs=prompt_logprobs,
            num_cached_tokens=self._num_cached_tokens,
            queue_s=queue_s,
        )
